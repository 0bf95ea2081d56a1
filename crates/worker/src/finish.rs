//! Writing outcomes, many at a time, and acknowledging after the commit.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use holdfast_domain::OrderId;
use holdfast_queue::Delivery;
use holdfast_store::fulfilment::{EndedClaim, Taken, Verdict};
use tokio::sync::mpsc;

use crate::{
    backoff::Backoff,
    hands::{ClaimId, InHand},
    shared::Shared,
    trace::JobTrace,
};

/// The most outcomes of one transaction.
const BATCH_MAX: usize = 1024;

/// An order that was worked on.
pub(crate) struct Finished {
    pub claim: ClaimId,
    pub delivery: Delivery,
    pub verdict: Verdict,
    pub taken: Taken,
    /// Frees the hand when the outcome is written.
    pub held: InHand,
    /// Its trace, if it has one.
    pub trace: Option<Box<JobTrace>>,
}

/// Writes outcomes until all senders are gone. While one batch is written the next gathers.
pub(crate) async fn finish(shared: Arc<Shared>, mut finished: mpsc::Receiver<Finished>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while finished.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let mut traces = Vec::new();
        let (outcomes, messages): (Vec<_>, Vec<_>) = batch
            .drain(..)
            .enumerate()
            .map(|(place, Finished { claim, delivery, verdict, taken, held, trace })| {
                traces.extend(trace.map(|trace| (place, trace)));
                let (order_id, attempt) = claim;
                (EndedClaim { order_id, attempt, verdict, taken }, (delivery, held))
            })
            .unzip();
        let begun = Instant::now();
        let written = write(&shared, &outcomes).await;
        for (place, trace) in traces {
            if let Some(EndedClaim { order_id, verdict, .. }) = outcomes.get(place) {
                trace.end(verdict, written.contains(order_id), begun, outcomes.len());
            }
        }
        shared.metrics.fenced.inc_by((outcomes.len() - written.len()) as u64);
        let verdicts =
            outcomes.iter().map(|ended| (&ended.verdict, written.contains(&ended.order_id)));
        acknowledge(&shared, verdicts.zip(messages)).await;
    }
}

/// Writes the outcomes, as often as it takes: the claims are ours as long as nobody else has taken
/// the orders, however long the database is away. Gives back the orders for which it was written.
///
/// A batch that the database refuses is written in halves, so that one bad order does not hold up
/// the others. Its claim ends by itself, and the order is tried again.
async fn write(shared: &Shared, outcomes: &[EndedClaim]) -> HashSet<OrderId> {
    let (mut parts, mut written) = (vec![outcomes], HashSet::with_capacity(outcomes.len()));
    let mut failures = 0;
    while let Some(part) = parts.pop() {
        match shared.store.finish(part).await {
            Ok(ids) => {
                failures = 0;
                shared.health.database(None);
                written.extend(ids);
            }
            Err(error) if error.is_transient() => {
                parts.push(part);
                failures += 1;
                shared.health.database(Some(&error));
                tokio::time::sleep(Backoff::RECONNECT.after(failures)).await;
            }
            Err(error) => {
                if let [bad] = part {
                    let error = holdfast_telemetry::Chain(&error);
                    tracing::error!(order.id = bad.order_id.0, %error, "an outcome cannot be written");
                } else {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
            }
        }
    }
    written
}

async fn acknowledge<'a>(
    shared: &Shared,
    outcomes: impl Iterator<Item = ((&'a Verdict, bool), (Delivery, InHand))>,
) {
    let (mut done, mut later, mut hands) = (Vec::new(), Vec::new(), Vec::new());
    for ((verdict, written), (delivery, held)) in outcomes {
        hands.push(held);
        if !written {
            // The message may be in its heir's hands by now. If it is still in ours, it comes back
            // when its time is over, and finds the order done or in other hands.
            continue;
        }
        shared.metrics.outcome(verdict);
        match verdict {
            Verdict::Completed | Verdict::Failed(_) => done.push(delivery),
            Verdict::Retry(delay, _) | Verdict::Postponed(delay, _) => {
                later.push((delivery, *delay));
            }
            Verdict::HandedBack => later.push((delivery, Duration::ZERO)),
        }
    }
    if !done.is_empty()
        && let Err(error) = shared.queue.ack_many(&done).await
    {
        // The messages come again, and their orders are found to be done.
        shared.health.redis(Some(&error));
    }
    if !later.is_empty()
        && let Err(error) = shared.queue.retry_later(&later).await
    {
        // The messages come again when their claims would have ended, or the sweep finds the
        // orders.
        shared.health.redis(Some(&error));
    }
    drop(hands);
}
