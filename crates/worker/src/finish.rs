//! Writes outcomes in batches, and acknowledges the messages after the commit.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use holdfast_domain::OrderId;
use holdfast_queue::Delivery;
use holdfast_store::fulfilment::{AttemptResult, EndedClaim, Taken};
use tokio::sync::mpsc;

use crate::{
    backoff::Backoff,
    context::WorkerContext,
    in_flight::{ClaimId, InFlightOrder},
    trace::JobTrace,
};

/// The most outcomes of one transaction.
const BATCH_MAX: usize = 1024;
/// The number of attempts after which a locked row is logged.
const SAID_AFTER: u32 = 20;

/// An order whose attempt has ended.
pub(crate) struct Finished {
    pub claim: ClaimId,
    pub delivery: Delivery,
    pub verdict: AttemptResult,
    pub taken: Taken,
    /// Dropped when the outcome is written.
    pub slot: InFlightOrder,
    pub trace: Option<Box<JobTrace>>,
}

/// Outcomes that wait because another session has locked the orders' rows.
#[derive(Default)]
struct LockedOutcomes {
    outcomes: Vec<Finished>,
    /// How often they have been tried.
    tries: u32,
    /// When they are tried again.
    next: Option<tokio::time::Instant>,
}

impl LockedOutcomes {
    fn pause(&mut self) {
        self.tries = self.tries.saturating_add(1);
        if self.tries == SAID_AFTER {
            let order = self.outcomes.first().map(|outcome| outcome.claim.0.0);
            let orders = self.outcomes.len();
            tracing::warn!(
                orders,
                order.id = order,
                "outcomes cannot be written because the orders' rows stay locked"
            );
        }
        self.next = Some(tokio::time::Instant::now() + Backoff::LOCKED.after(self.tries));
    }

    /// Waits until they are due, or for ever if there are none.
    async fn due(&self) {
        match self.next {
            Some(next) if !self.outcomes.is_empty() => tokio::time::sleep_until(next).await,
            _ => std::future::pending().await,
        }
    }
}

/// Writes outcomes until all senders are gone and no outcome waits for a locked row. While one batch is written, the next
/// one gathers. Outcomes whose rows are locked are tried again separately. Their orders stay in flight, and so keep their
/// leases, until the outcomes are written or the claims are lost.
pub(crate) async fn finish(shared: Arc<WorkerContext>, mut finished: mpsc::Receiver<Finished>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    let mut locked = LockedOutcomes::default();
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

/// Returns the outcomes that must be tried again because their rows are locked.
async fn write_and_acknowledge(shared: &WorkerContext, batch: &mut Vec<Finished>) -> Vec<Finished> {
    let (outcomes, rest): (Vec<_>, Vec<_>) = batch
        .drain(..)
        .map(|Finished { claim: (order_id, attempt), delivery, verdict, taken, slot, trace }| {
            (EndedClaim { order_id, attempt, verdict, taken }, (delivery, slot, trace))
        })
        .unzip();
    let (begun, orders) = (Instant::now(), outcomes.len());
    // If a batch has several attempts of an order, only the newest can have been written.
    let mut newest = HashMap::with_capacity(orders);
    for outcome in &outcomes {
        let attempt = newest.entry(outcome.order_id).or_insert(outcome.attempt);
        *attempt = outcome.attempt.max(*attempt);
    }
    let WrittenOutcomes { done, locked } = write(shared, &outcomes).await;
    let (mut still, mut ended) = (Vec::new(), Vec::with_capacity(orders));
    for (outcome, (delivery, slot, trace)) in outcomes.into_iter().zip(rest) {
        let EndedClaim { order_id, attempt, verdict, taken } = outcome;
        if locked.contains(&order_id) {
            let claim = (order_id, attempt);
            still.push(Finished { claim, delivery, verdict, taken, slot, trace });
            continue;
        }
        let written = done.contains(&order_id) && newest.get(&order_id) == Some(&attempt);
        if let Some(trace) = trace {
            trace.end(&verdict, written, begun, orders);
        }
        if !written {
            shared.metrics.fenced.inc();
        }
        ended.push(((verdict, written), (delivery, slot)));
    }
    acknowledge(shared, ended).await;
    still
}

#[derive(Default)]
struct WrittenOutcomes {
    done: HashSet<OrderId>,
    locked: HashSet<OrderId>,
}

/// Writes the outcomes, and tries again until the database answers: the claims stay valid until another worker takes the
/// orders over, however long the database is down.
///
/// If the database refuses a batch, its halves are written separately, so that one bad order does not delay the others. The
/// lease of a bad order expires, and the order is tried again.
async fn write(shared: &WorkerContext, outcomes: &[EndedClaim]) -> WrittenOutcomes {
    let (mut parts, mut written) = (vec![outcomes], WrittenOutcomes::default());
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

async fn acknowledge(
    shared: &WorkerContext,
    outcomes: Vec<((AttemptResult, bool), (Delivery, InFlightOrder))>,
) {
    let (mut done, mut later, mut slots) = (Vec::new(), Vec::new(), Vec::new());
    for ((verdict, written), (delivery, slot)) in outcomes {
        slots.push(slot);
        if !written {
            // The message may belong to another worker by now. If not, it is delivered again later and dropped then.
            continue;
        }
        shared.metrics.outcome(&verdict);
        match verdict {
            AttemptResult::Completed | AttemptResult::Failed(_) => done.push(delivery),
            AttemptResult::Retry(delay, _) | AttemptResult::Postponed(delay, _) => {
                later.push((delivery, delay));
            }
            AttemptResult::HandedBack => later.push((delivery, Duration::ZERO)),
        }
    }
    if !done.is_empty()
        && let Err(error) = shared.queue.ack_many(&done).await
    {
        // The messages are delivered again, and dropped because their orders are finished.
        shared.health.redis(Some(&error));
    }
    if !later.is_empty()
        && let Err(error) = shared.queue.retry_later(&later).await
    {
        // The messages are delivered again when their leases would have expired, or the sweep finds the orders.
        shared.health.redis(Some(&error));
    }
    drop(slots);
}
