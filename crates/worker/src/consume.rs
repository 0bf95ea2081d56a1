//! Reads the queue, claims the orders and starts their fulfilment.

use std::{
    collections::{HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use holdfast_domain::OrderId;
use holdfast_queue::{Consumer, Delivery, QueueError};
use holdfast_store::fulfilment::{Claim, ClaimedOrder, Taken, Verdict};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{
    FulfilError, Fulfilment, Handover, OrderToFulfil,
    backoff::Backoff,
    context::{JobSettings, WorkerContext},
    finish::Finished,
    in_flight::InFlightOrder,
    trace::{JobTrace, RoundTimes},
    unread,
};

/// Reads the queue until `stop`. Orders in flight then go on.
pub(crate) async fn consume<F: Fulfilment>(
    shared: Arc<WorkerContext>,
    mut consumer: Consumer,
    fulfilment: Arc<F>,
    finished: mpsc::Sender<Finished>,
    stop: CancellationToken,
    abort: CancellationToken,
) {
    let mut failures = 0;
    let mut look_for_dead = Instant::now();
    while !stop.is_cancelled() {
        let free = tokio::select! {
            free = shared.limit.free() => free,
            () = stop.cancelled() => break,
        };
        let room = tokio::select! {
            room = fulfilment.room() => room,
            () = stop.cancelled() => break,
        };
        let max = free.min(shared.settings.batch).min(room);
        let read = if look_for_dead <= Instant::now() {
            look_for_dead = Instant::now() + shared.settings.lease / 2;
            consumer.take_over(shared.settings.lease, max).await.inspect(|taken| {
                shared.metrics.taken_over.inc_by(taken.len() as u64);
                if taken.len() == max {
                    // There may be more. Take them over as soon as slots are free.
                    look_for_dead = Instant::now();
                }
            })
        } else {
            // Not cancelled by `stop`, because messages that Redis delivers meanwhile must not be lost. The read returns
            // when its block time is over.
            consumer.next(max).await
        };
        let mut deliveries = match read {
            Ok(deliveries) => {
                failures = 0;
                shared.health.redis(None);
                deliveries
            }
            // Redis is new or has lost its data.
            Err(QueueError::NoGroup) if shared.queue.ensure_group().await.is_ok() => continue,
            Err(error) => {
                failures += 1;
                shared.health.redis(Some(&error));
                let wait = Backoff::RECONNECT.after(failures);
                let _ = tokio::time::timeout(wait, stop.cancelled()).await;
                continue;
            }
        };
        if deliveries.is_empty() {
            continue;
        }
        if stop.is_cancelled() {
            shared.put_back(deliveries).await;
            break;
        }
        let received = Instant::now();
        let Some(claims) = claim(&shared, &mut deliveries, &stop).await else {
            shared.put_back(deliveries).await;
            break;
        };
        let times = RoundTimes { received, claimed: Instant::now(), orders: claims.len() };
        let jobs =
            Jobs { shared: &shared, fulfilment: &fulfilment, finished: &finished, abort: &abort };
        let unread = jobs.begin(deliveries, claims, times).await;
        unread::begin(&jobs, unread, &stop).await;
    }
}

/// Claims the orders, and tries again until the database answers; `None` if the worker has to end first.
///
/// If the database refuses a batch, its halves are claimed separately, so that one bad order does not delay the others. The
/// message of a bad order stays unacknowledged and is delivered again later.
async fn claim(
    shared: &WorkerContext,
    deliveries: &mut Vec<Delivery>,
    stop: &CancellationToken,
) -> Option<Vec<Claim>> {
    let ids: Vec<_> = deliveries.iter().map(|delivery| OrderId(delivery.job.order_id)).collect();
    let (mut parts, mut claims) = (vec![&ids[..]], Vec::with_capacity(ids.len()));
    let mut failures = 0;
    while let Some(part) = parts.pop() {
        match shared.store.claim(part, shared.settings.lease).await {
            Ok(claimed) => {
                failures = 0;
                shared.health.database(None);
                claims.extend(claimed);
            }
            Err(error) if error.is_transient() => {
                parts.push(part);
                failures += 1;
                shared.health.database(Some(&error));
                let wait = Backoff::RECONNECT.after(failures);
                if tokio::time::timeout(wait, stop.cancelled()).await.is_ok() {
                    return None;
                }
            }
            Err(error) => {
                if let [bad] = part {
                    let error = holdfast_telemetry::Chain(&error);
                    tracing::error!(order.id = bad.0, %error, "an order cannot be claimed");
                    deliveries.retain(|delivery| delivery.job.order_id != bad.0);
                } else {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
            }
        }
    }
    Some(claims)
}

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
    async fn begin(
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
                // No attempt so far recorded an outcome: each worker was killed, perhaps by this very order. It is
                // therefore not read again.
                let verdict = Verdict::Failed(format!(
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
                () = abort.cancelled() => Verdict::HandedBack,
            };
            let taken = handover.end();
            let ended = Finished { claim: id, delivery, verdict, taken, slot, trace };
            let _ = finished.send(ended).await;
        });
        self.shared.limit.set_task(id, task.abort_handle());
    }

    /// Ends an order that was not started.
    pub async fn end(&self, begun: Begun, verdict: Verdict) {
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
) -> Verdict {
    let (tries, returns, since) = (claim.tries, order.returns, order.since);
    let max = shared.settings.max_attempts;
    let work = OrderToFulfil {
        order_id: claim.order_id,
        nonce: claim.nonce,
        handover,
        tries,
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
        Ok(Ok(())) => return Verdict::Completed,
        Ok(Err(error)) => error,
        Err(_panic) => FulfilError::Retry("fulfilment panicked".to_owned()),
    };
    match error {
        FulfilError::Fail(reason) => Verdict::Failed(reason),
        FulfilError::Unavailable { reason, after } => {
            let delay = shared.settings.delay(returns, after);
            let age = jiff::Timestamp::now().duration_since(since);
            let counts = Duration::try_from(age).is_ok_and(|age| age >= shared.settings.retry_for);
            match counts {
                false => Verdict::Postponed(delay, reason),
                true if tries >= max => given_up(max, &reason),
                true => Verdict::Retry(delay, reason),
            }
        }
        FulfilError::Retry(reason) => shared.settings.retry(tries, returns, reason),
    }
}

fn given_up(max: i32, reason: &str) -> Verdict {
    Verdict::Failed(format!("gave up after {max} attempts: {reason}"))
}

impl JobSettings {
    /// The outcome of a failed attempt that may be the order's own fault.
    pub fn retry(&self, tries: i32, returns: u32, reason: String) -> Verdict {
        if tries >= self.max_attempts {
            return given_up(self.max_attempts, &reason);
        }
        Verdict::Retry(self.delay(returns, None), reason)
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

impl WorkerContext {
    /// Returns messages of orders that were not started to the queue.
    pub async fn put_back(&self, deliveries: Vec<Delivery>) {
        let now: Vec<_> =
            deliveries.into_iter().map(|delivery| (delivery, Duration::ZERO)).collect();
        if let Err(error) = self.queue.retry_later(&now).await {
            tracing::info!(
                error = &error as &dyn std::error::Error,
                "messages could not be returned to the queue; another worker takes them over"
            );
        }
    }
}
