//! From the queue into the worker's hands.

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
    FulfilError, Fulfilment, Handover, Work,
    backoff::Backoff,
    finish::Finished,
    hands::InHand,
    shared::{Parts, Shared},
    trace::{JobTrace, RoundTimes},
    unread,
};

/// Reads the queue until `stop`. What is in hand then goes on.
pub(crate) async fn consume<F: Fulfilment>(
    shared: Arc<Shared>,
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
            free = shared.hands.free() => free,
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
                    // There may be more, as soon as there are hands for them.
                    look_for_dead = Instant::now();
                }
            })
        } else {
            // Not cancelled by `stop`: what Redis has delivered must be seen. It ends by itself
            // when its block is over.
            consumer.next(max).await
        };
        let mut deliveries = match read {
            Ok(deliveries) => {
                failures = 0;
                shared.health.redis(None);
                deliveries
            }
            // A Redis that is new, or has lost its data.
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

/// Claims the orders, as often as it takes; `None` if the worker has to end first.
///
/// A batch that the database refuses is claimed in halves, so that one bad order does not hold up
/// the others. Its message stays unacknowledged, and comes back when its time in hand is over.
async fn claim(
    shared: &Shared,
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

/// What jobs are begun with.
pub(crate) struct Jobs<'a, F> {
    pub shared: &'a Arc<Shared>,
    pub fulfilment: &'a Arc<F>,
    pub finished: &'a mpsc::Sender<Finished>,
    pub abort: &'a CancellationToken,
}

/// A claimed order in hand.
pub(crate) struct Begun {
    pub claim: Claim,
    pub delivery: Delivery,
    pub held: InHand,
    pub trace: Option<Box<JobTrace>>,
}

impl<F: Fulfilment> Jobs<'_, F> {
    /// Takes the claimed orders in hand and begins those that came with their claims. Gives back
    /// the others, which are still to be read.
    ///
    /// Messages of orders that could not be claimed are done with: such an order is final, or in
    /// somebody else's hands, and if those let go of it, the sweep finds it.
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
            // A second message for the same order finds its claim taken.
            let claimed = claims.remove(&OrderId(delivery.job.order_id));
            let Some((held, claim)) =
                claimed.and_then(|claim| Some((shared.hands.take(claim.id(), &delivery)?, claim)))
            else {
                unclaimed.push(delivery);
                continue;
            };
            let trace = JobTrace::begin(&delivery, &claim, times);
            let mut begun = Begun { claim, delivery, held, trace };
            if begun.claim.tries > max {
                // Every try so far ended without a word: its worker was killed, perhaps by this very order, which
                // is not even read again.
                let verdict = Verdict::Failed(format!(
                    "gave up after {max} tries, the last without an outcome"
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
            // They come again, and are found to be done again.
            shared.health.redis(Some(&error));
        }
        unread
    }

    /// Begins an order that has been read. What is done at its first touch is done right here; a
    /// task is made for what takes longer. Keeps `memory` until it is done.
    pub async fn start(
        &self,
        begun: Begun,
        order: ClaimedOrder,
        memory: Option<OwnedSemaphorePermit>,
    ) {
        let Begun { claim, delivery, held, trace } = begun;
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
            // The receiver outlives all senders.
            let ended = Finished { claim: id, delivery, verdict, taken, held, trace };
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
            let ended = Finished { claim: id, delivery, verdict, taken, held, trace };
            let _ = finished.send(ended).await;
        });
        self.shared.hands.worked_on_by(id, task.abort_handle());
    }

    /// Ends an order that was not begun.
    pub async fn end(&self, begun: Begun, verdict: Verdict) {
        let Begun { claim, delivery, held, trace } = begun;
        let (claim, taken) = (claim.id(), Taken::Never);
        let _ = self.finished.send(Finished { claim, delivery, verdict, taken, held, trace }).await;
    }
}

async fn work<F: Fulfilment>(
    shared: Arc<Shared>,
    fulfilment: Arc<F>,
    claim: Claim,
    order: ClaimedOrder,
    handover: Handover,
) -> Verdict {
    let (tries, returns, since) = (claim.tries, order.returns, order.since);
    let max = shared.settings.max_attempts;
    let work = Work {
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
    // A job that panics is a failed try of that job, and nobody else's business; even where it does
    // so before its first await.
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
    Verdict::Failed(format!("gave up after {max} tries: {reason}"))
}

impl Parts {
    /// What becomes of an order whose try failed by its own fault, perhaps.
    pub fn retry(&self, tries: i32, returns: u32, reason: String) -> Verdict {
        if tries >= self.max_attempts {
            return given_up(self.max_attempts, &reason);
        }
        Verdict::Retry(self.delay(returns, None), reason)
    }

    /// How long an order waits that has gone back to pending so often before, and that is not to
    /// come back before `after`.
    fn delay(&self, returns: u32, after: Option<Duration>) -> Duration {
        let own = self.backoff.after(returns.saturating_add(1));
        match after {
            // Spread, so that those who were told the same do not come back all at once.
            Some(after) if after > own => after + own.min(after / 10),
            _ => own,
        }
    }
}

impl Shared {
    /// Gives messages that nobody began back to the queue.
    pub async fn put_back(&self, deliveries: Vec<Delivery>) {
        let now: Vec<_> =
            deliveries.into_iter().map(|delivery| (delivery, Duration::ZERO)).collect();
        if let Err(error) = self.queue.retry_later(&now).await {
            tracing::info!(
                error = &error as &dyn std::error::Error,
                "messages could not be given back; another worker takes them over"
            );
        }
    }
}
