//! The fulfilment of claimed orders: one job per order.

use std::{
    collections::{HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use holdfast_domain::OrderId;
use holdfast_queue::Delivery;
use holdfast_store::fulfilment::{AttemptResult, Claim, ClaimedOrder, Taken};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{
    FulfilError, Fulfilment, Handover, OrderToFulfil,
    context::{JobSettings, WorkerContext},
    finish::Finished,
    in_flight::InFlightOrder,
    trace::{JobTrace, RoundTimes},
};

/// Starts the fulfilment of claimed orders.
pub(crate) struct Jobs<'a, F> {
    pub shared: &'a Arc<WorkerContext>,
    pub fulfilment: &'a Arc<F>,
    pub finished: &'a mpsc::Sender<Finished>,
    pub abort: &'a CancellationToken,
}

/// A claimed order in flight.
pub(crate) struct Begun {
    pub claim: Claim,
    pub delivery: Delivery,
    pub slot: InFlightOrder,
    pub trace: Option<Box<JobTrace>>,
}

impl<F: Fulfilment> Jobs<'_, F> {
    /// Starts the orders that came with their claims. Returns the others, which must be read first.
    ///
    /// Messages of orders that could not be claimed are acknowledged: such an order is finished or claimed by another
    /// worker, and if that worker loses it, the sweep finds it.
    pub async fn begin(
        &self,
        deliveries: Vec<Delivery>,
        claims: Vec<Claim>,
        times: RoundTimes,
    ) -> VecDeque<Begun> {
        let shared = self.shared;
        shared.metrics.claimed.inc_by(claims.len() as u64);
        let taken_over = claims.iter().filter(|claim| claim.taken_over).count();
        shared.metrics.claims_taken_over.inc_by(taken_over as u64);
        let mut claims: HashMap<_, _> =
            claims.into_iter().map(|claim| (claim.order_id, claim)).collect();
        let (mut unclaimed, mut unread) = (Vec::new(), VecDeque::new());
        let max = shared.settings.max_attempts;
        for delivery in deliveries {
            // A second message for the same order finds no claim.
            let claimed = claims.remove(&OrderId(delivery.job.order_id));
            let Some((slot, claim)) = claimed
                .and_then(|claim| Some((shared.limit.occupy(claim.id(), &delivery)?, claim)))
            else {
                unclaimed.push(delivery);
                continue;
            };
            let trace = JobTrace::begin(&delivery, &claim, times);
            let mut begun = Begun { claim, delivery, slot, trace };
            if begun.claim.tries > max {
                // The last attempt recorded no outcome: its worker was killed, perhaps by this order. The order is
                // therefore not read again.
                let verdict = AttemptResult::Failed(format!(
                    "gave up after {max} attempts; the last one ended without an outcome"
                ));
                self.end(begun, verdict).await;
            } else if let Some(order) = begun.claim.order.take() {
                self.start(begun, order, None).await;
            } else {
                unread.push_back(begun);
            }
        }
        shared.metrics.unclaimed.inc_by(unclaimed.len() as u64);
        if !unclaimed.is_empty()
            && let Err(error) = shared.queue.ack_many(&unclaimed).await
        {
            // They are delivered again, and dropped again.
            shared.health.redis(Some(&error));
        }
        unread
    }

    /// Starts an order that has been read. If its fulfilment completes at the first poll, no task is spawned. `memory` is
    /// released when the fulfilment ends.
    pub async fn start(
        &self,
        begun: Begun,
        order: ClaimedOrder,
        memory: Option<OwnedSemaphorePermit>,
    ) {
        let Begun { claim, delivery, slot, trace } = begun;
        let id = claim.id();
        let span = JobTrace::fulfil(trace.as_deref());
        let handover = Handover::default();
        let (shared, fulfilment) = (Arc::clone(self.shared), Arc::clone(self.fulfilment));
        let work = work(shared, fulfilment, claim, order, handover.clone());
        let mut job = Box::pin(
            async move {
                let verdict = work.await;
                drop(memory);
                verdict
            }
            .instrument(span),
        );
        if let Poll::Ready(verdict) = futures::poll!(job.as_mut()) {
            let taken = handover.end();
            // Cannot fail: the receiver outlives all senders.
            let ended = Finished { claim: id, delivery, verdict, taken, slot, trace };
            let _ = self.finished.send(ended).await;
            return;
        }
        let (finished, abort) = (self.finished.clone(), self.abort.clone());
        let task = tokio::spawn(async move {
            let verdict = tokio::select! {
                verdict = job => verdict,
                () = abort.cancelled() => AttemptResult::HandedBack,
            };
            let taken = handover.end();
            let ended = Finished { claim: id, delivery, verdict, taken, slot, trace };
            let _ = finished.send(ended).await;
        });
        self.shared.limit.set_task(id, task.abort_handle());
    }

    /// Ends an order that was not started.
    pub async fn end(&self, begun: Begun, verdict: AttemptResult) {
        let Begun { claim, delivery, slot, trace } = begun;
        let (claim, taken) = (claim.id(), Taken::Never);
        let _ = self.finished.send(Finished { claim, delivery, verdict, taken, slot, trace }).await;
    }
}

async fn work<F: Fulfilment>(
    shared: Arc<WorkerContext>,
    fulfilment: Arc<F>,
    claim: Claim,
    order: ClaimedOrder,
    handover: Handover,
) -> AttemptResult {
    let (tries, returns, since) = (claim.tries, order.returns, order.since);
    let max = shared.settings.max_attempts;
    let work = OrderToFulfil {
        order_id: claim.order_id,
        nonce: claim.nonce,
        handover,
        tries,
        failed_before: tries > 1 || claim.unclear > 0,
        created_at: order.created_at,
        lines: order.lines,
        customer_ref: order.customer_ref,
        metadata: order.metadata,
    };
    let begun = Instant::now();
    // A panic fails this attempt and nothing else, even before the first await.
    let trying = AssertUnwindSafe(async { fulfilment.fulfil(work).await });
    let outcome = trying.catch_unwind().await;
    shared.metrics.fulfilment.observe(begun.elapsed().as_secs_f64());
    let error = match outcome {
        Ok(Ok(())) => return AttemptResult::Completed,
        Ok(Err(error)) => error,
        Err(_panic) => FulfilError::Retry("fulfilment panicked".to_owned()),
    };
    match error {
        FulfilError::Fail(reason) => AttemptResult::Failed(reason),
        FulfilError::Unavailable { reason, after } => {
            let delay = shared.settings.delay(returns, after);
            let age = jiff::Timestamp::now().duration_since(since);
            let counts = Duration::try_from(age).is_ok_and(|age| age >= shared.settings.retry_for);
            match counts {
                false => AttemptResult::Postponed(delay, reason),
                true if tries >= max => given_up(max, &reason),
                true => AttemptResult::Retry(delay, reason),
            }
        }
        FulfilError::Retry(reason) => shared.settings.retry(tries, returns, reason),
    }
}

fn given_up(max: i32, reason: &str) -> AttemptResult {
    AttemptResult::Failed(format!("gave up after {max} attempts: {reason}"))
}

impl JobSettings {
    /// The outcome of a failed attempt that may be the order's own fault.
    pub fn retry(&self, tries: i32, returns: u32, reason: String) -> AttemptResult {
        if tries >= self.max_attempts {
            return given_up(self.max_attempts, &reason);
        }
        AttemptResult::Retry(self.delay(returns, None), reason)
    }

    /// The delay before the next attempt of an order that has returned to pending `returns` times, at least `after`.
    fn delay(&self, returns: u32, after: Option<Duration>) -> Duration {
        let own = self.backoff.after(returns.saturating_add(1));
        match after {
            // Spread, so that orders with the same `after` do not all come back at once.
            Some(after) if after > own => after + own.min(after / 10),
            _ => own,
        }
    }
}
