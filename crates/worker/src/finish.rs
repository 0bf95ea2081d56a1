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
/// After so many tries, a locked row is something to tell the operator.
const SAID_AFTER: u32 = 20;

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

/// Outcomes whose orders' rows others have locked.
#[derive(Default)]
struct Locked {
    outcomes: Vec<Finished>,
    /// How often they were tried.
    tries: u32,
    /// When they are tried again.
    next: Option<tokio::time::Instant>,
}

impl Locked {
    fn pause(&mut self) {
        self.tries = self.tries.saturating_add(1);
        if self.tries == SAID_AFTER {
            let order = self.outcomes.first().map(|outcome| outcome.claim.0.0);
            let orders = self.outcomes.len();
            tracing::warn!(
                orders,
                order.id = order,
                "outcomes wait for orders whose rows stay locked"
            );
        }
        self.next = Some(tokio::time::Instant::now() + Backoff::LOCKED.after(self.tries));
    }

    /// Waits until it is time to try them again; for ever if there are none.
    async fn due(&self) {
        match self.next {
            Some(next) if !self.outcomes.is_empty() => tokio::time::sleep_until(next).await,
            _ => std::future::pending().await,
        }
    }
}

/// Writes outcomes until all senders are gone and nothing waits for a locked row. While one batch is written the next
/// gathers. Those whose rows are locked are tried again by themselves and keep their hands, and thereby their leases,
/// until they are written or lost.
pub(crate) async fn finish(shared: Arc<Shared>, mut finished: mpsc::Receiver<Finished>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    let mut locked = Locked::default();
    let mut open = true;
    while open || !locked.outcomes.is_empty() {
        let again = tokio::select! {
            count = finished.recv_many(&mut batch, BATCH_MAX), if open => {
                open = count > 0;
                false
            }
            () = locked.due() => {
                batch.append(&mut locked.outcomes);
                true
            }
        };
        if batch.is_empty() {
            continue;
        }
        let still = write_and_acknowledge(&shared, &mut batch).await;
        if still.is_empty() {
            continue;
        }
        let first = locked.outcomes.is_empty() && !again;
        locked.outcomes.extend(still);
        if first {
            locked.tries = 0;
        }
        if first || again {
            locked.pause();
        }
    }
}

/// Gives back the outcomes that are to be written again, for their rows are locked.
async fn write_and_acknowledge(shared: &Shared, batch: &mut Vec<Finished>) -> Vec<Finished> {
    let (outcomes, rest): (Vec<_>, Vec<_>) = batch
        .drain(..)
        .map(|Finished { claim: (order_id, attempt), delivery, verdict, taken, held, trace }| {
            (EndedClaim { order_id, attempt, verdict, taken }, (delivery, held, trace))
        })
        .unzip();
    let (begun, orders) = (Instant::now(), outcomes.len());
    let Written { done, locked } = write(shared, &outcomes).await;
    let (mut still, mut ended) = (Vec::new(), Vec::with_capacity(orders));
    for (outcome, (delivery, held, trace)) in outcomes.into_iter().zip(rest) {
        let EndedClaim { order_id, attempt, verdict, taken } = outcome;
        if locked.contains(&order_id) {
            let claim = (order_id, attempt);
            still.push(Finished { claim, delivery, verdict, taken, held, trace });
            continue;
        }
        let written = done.contains(&order_id);
        if let Some(trace) = trace {
            trace.end(&verdict, written, begun, orders);
        }
        if !written {
            shared.metrics.fenced.inc();
        }
        ended.push(((verdict, written), (delivery, held)));
    }
    acknowledge(shared, ended).await;
    still
}

#[derive(Default)]
struct Written {
    done: HashSet<OrderId>,
    locked: HashSet<OrderId>,
}

/// Writes the outcomes, as often as it takes: the claims are ours as long as nobody else has taken
/// the orders, however long the database is away. Says for which orders it was written, and which are locked.
///
/// A batch that the database refuses is written in halves, so that one bad order does not hold up
/// the others. Its claim ends by itself, and the order is tried again.
async fn write(shared: &Shared, outcomes: &[EndedClaim]) -> Written {
    let (mut parts, mut written) = (vec![outcomes], Written::default());
    written.done.reserve(outcomes.len());
    let mut failures = 0;
    while let Some(part) = parts.pop() {
        match shared.store.finish(part).await {
            Ok(reached) => {
                failures = 0;
                shared.health.database(None);
                written.done.extend(reached.done);
                written.locked.extend(reached.locked);
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

async fn acknowledge(shared: &Shared, outcomes: Vec<((Verdict, bool), (Delivery, InHand))>) {
    let (mut done, mut later, mut hands) = (Vec::new(), Vec::new(), Vec::new());
    for ((verdict, written), (delivery, held)) in outcomes {
        hands.push(held);
        if !written {
            // The message may be in its heir's hands by now. If it is still in ours, it comes back
            // when its time is over, and finds the order done or in other hands.
            continue;
        }
        shared.metrics.outcome(&verdict);
        match verdict {
            Verdict::Completed | Verdict::Failed(_) => done.push(delivery),
            Verdict::Retry(delay, _) | Verdict::Postponed(delay, _) => {
                later.push((delivery, delay));
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
