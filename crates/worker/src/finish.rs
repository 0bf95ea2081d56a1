//! Writing outcomes, many at a time, and acknowledging after the commit.

use std::{sync::Arc, time::Duration};

use holdfast_queue::Delivery;
use holdfast_store::fulfilment::{Claim, Verdict};
use tokio::sync::mpsc;

use crate::{backoff::Backoff, hands::Held, run::Shared};

/// The most outcomes of one transaction.
const BATCH_MAX: usize = 1024;

/// An order that was worked on.
pub(crate) struct Finished {
    pub claim: Claim,
    pub delivery: Delivery,
    pub verdict: Verdict,
    /// Frees the hand when the outcome is written.
    pub held: Held,
}

/// Writes outcomes until all senders are gone. While one batch is written the next gathers.
pub(crate) async fn finish(shared: Arc<Shared>, mut finished: mpsc::Receiver<Finished>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while finished.recv_many(&mut batch, BATCH_MAX).await > 0 {
        // In the order of the ids, so that rows are visited in the order they lie in.
        batch.sort_unstable_by_key(|finished| finished.claim.order_id);
        let (outcomes, messages): (Vec<_>, Vec<_>) = batch
            .drain(..)
            .map(|Finished { claim, delivery, verdict, held }| {
                ((claim.order_id, claim.attempt, verdict), (delivery, held))
            })
            .unzip();
        write(&shared, &outcomes).await;
        let verdicts = outcomes.iter().map(|(_, _, verdict)| verdict);
        acknowledge(&shared, verdicts.zip(messages)).await;
    }
}

/// Writes the outcomes, as often as it takes: the claims are ours as long as nobody else has taken
/// the orders, however long the database is away.
async fn write(shared: &Shared, outcomes: &[(holdfast_domain::OrderId, i32, Verdict)]) {
    let mut failures = 0;
    loop {
        match shared.store.finish(outcomes).await {
            Ok(written) => {
                shared.health.database(None);
                shared.metrics.fenced.inc_by((outcomes.len() - written.len()) as u64);
                return;
            }
            Err(error) => {
                failures += 1;
                shared.health.database(Some(&error));
                tokio::time::sleep(Backoff::RECONNECT.after(failures)).await;
            }
        }
    }
}

async fn acknowledge<'a>(
    shared: &Shared,
    outcomes: impl Iterator<Item = (&'a Verdict, (Delivery, Held))>,
) {
    let (mut done, mut later, mut hands) = (Vec::new(), Vec::new(), Vec::new());
    for (verdict, (delivery, held)) in outcomes {
        shared.metrics.outcome(verdict);
        hands.push(held);
        match verdict {
            Verdict::Completed | Verdict::Failed(_) => done.push(delivery),
            Verdict::Retry(delay, _) => later.push((delivery, *delay)),
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
