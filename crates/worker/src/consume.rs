//! From the queue into the worker's hands.

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Instant};

use futures::FutureExt as _;
use holdfast_domain::OrderId;
use holdfast_queue::{Consumer, Delivery, QueueError};
use holdfast_store::fulfilment::{Claim, Verdict};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{FulfilError, Fulfilment, Work, backoff::Backoff, finish::Finished, run::Shared};

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
        let max = free.min(shared.settings.batch);
        let read = if look_for_dead <= Instant::now() {
            look_for_dead = Instant::now() + shared.settings.lease / 2;
            consumer.take_over(shared.settings.lease, max).await.inspect(|taken| {
                shared.metrics.taken_over.inc_by(taken.len() as u64);
            })
        } else {
            // Not cancelled by `stop`: what Redis has delivered must be seen. It ends by itself
            // when its block is over.
            consumer.next(max).await
        };
        let deliveries = match read {
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
        let Some(claims) = claim(&shared, &deliveries, &stop).await else {
            shared.put_back(deliveries).await;
            break;
        };
        begin(&shared, deliveries, claims, &fulfilment, &finished, &abort).await;
    }
}

/// Claims the orders, as often as it takes; `None` if the worker has to end first.
async fn claim(
    shared: &Shared,
    deliveries: &[Delivery],
    stop: &CancellationToken,
) -> Option<Vec<Claim>> {
    let ids: Vec<_> = deliveries.iter().map(|delivery| OrderId(delivery.job.order_id)).collect();
    let mut failures = 0;
    loop {
        match shared.store.claim(&ids, shared.settings.lease).await {
            Ok(claims) => {
                shared.health.database(None);
                return Some(claims);
            }
            Err(error) => {
                failures += 1;
                shared.health.database(Some(&error));
                let wait = Backoff::RECONNECT.after(failures);
                if tokio::time::timeout(wait, stop.cancelled()).await.is_ok() {
                    return None;
                }
            }
        }
    }
}

/// Starts a task for each claimed order. Messages of orders that could not be claimed are done
/// with: such an order is final, or in somebody else's hands, and if those let go of it, the sweep
/// finds it.
async fn begin<F: Fulfilment>(
    shared: &Arc<Shared>,
    deliveries: Vec<Delivery>,
    claims: Vec<Claim>,
    fulfilment: &Arc<F>,
    finished: &mpsc::Sender<Finished>,
    abort: &CancellationToken,
) {
    shared.metrics.claimed.inc_by(claims.len() as u64);
    let mut claims: HashMap<_, _> =
        claims.into_iter().map(|claim| (claim.order_id, claim)).collect();
    let mut unclaimed = Vec::new();
    for delivery in deliveries {
        // A second message for the same order finds its claim taken.
        let claim = claims.remove(&OrderId(delivery.job.order_id));
        let Some((claim, held)) =
            claim.and_then(|claim| shared.hands.take(&claim, &delivery).map(|held| (claim, held)))
        else {
            unclaimed.push(delivery);
            continue;
        };
        let shared = Arc::clone(shared);
        let fulfilment = Arc::clone(fulfilment);
        let finished = finished.clone();
        let abort = abort.clone();
        tokio::spawn(async move {
            let verdict = tokio::select! {
                verdict = work(&shared, &*fulfilment, &claim) => verdict,
                () = abort.cancelled() => Verdict::HandedBack,
            };
            let outcome = Finished { claim, delivery, verdict, held };
            // The receiver outlives all senders.
            let _ = finished.send(outcome).await;
        });
    }
    shared.metrics.unclaimed.inc_by(unclaimed.len() as u64);
    if let Err(error) = shared.queue.ack_many(&unclaimed).await {
        // They come again, and are found to be done again.
        shared.health.redis(Some(&error));
    }
}

async fn work<F: Fulfilment>(shared: &Shared, fulfilment: &F, claim: &Claim) -> Verdict {
    let max = shared.settings.max_attempts;
    if claim.tries > max {
        // Every try so far ended without a word: its worker was killed, perhaps by this very order.
        return Verdict::Failed(format!("gave up after {max} tries, the last without an outcome"));
    }
    let work = Work {
        order_id: claim.order_id,
        tries: claim.tries,
        product_id: claim.product_id,
        quantity: claim.quantity,
    };
    let begun = Instant::now();
    // A job that panics is a failed try of that job, and nobody else's business.
    let outcome = AssertUnwindSafe(fulfilment.fulfil(work)).catch_unwind().await;
    shared.metrics.fulfilment.observe(begun.elapsed().as_secs_f64());
    let error = match outcome {
        Ok(Ok(())) => return Verdict::Completed,
        Ok(Err(error)) => error,
        Err(_panic) => FulfilError::Retry("fulfilment panicked".to_owned()),
    };
    match error {
        FulfilError::Fail(reason) => Verdict::Failed(reason),
        FulfilError::Retry(reason) if claim.tries >= max => {
            Verdict::Failed(format!("gave up after {max} tries: {reason}"))
        }
        FulfilError::Retry(reason) => {
            let tries = u32::try_from(claim.tries).unwrap_or(1);
            Verdict::Retry(shared.settings.retry.after(tries), reason)
        }
    }
}

impl Shared {
    /// Gives messages that nobody began back to the queue.
    pub async fn put_back(&self, deliveries: Vec<Delivery>) {
        let now: Vec<_> =
            deliveries.into_iter().map(|delivery| (delivery, std::time::Duration::ZERO)).collect();
        if let Err(error) = self.queue.retry_later(&now).await {
            tracing::info!(
                error = &error as &dyn std::error::Error,
                "messages could not be given back; another worker takes them over"
            );
        }
    }
}
