//! Reads the queue, claims the orders and starts their fulfilment.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use holdfast_domain::OrderId;
use holdfast_queue::{Consumer, Delivery, QueueError};
use holdfast_store::fulfilment::Claim;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    Fulfilment, backoff::Backoff, context::WorkerContext, finish::Finished, jobs::Jobs,
    trace::RoundTimes, unread,
};

/// Reads the queue until `stop`. Orders in flight then continue.
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
                // Redis may have started without its data.
                if failures > 0 || consumer.redis_is_new() {
                    shared.redis_is_new.notify_one();
                }
                failures = 0;
                shared.health.redis(None);
                deliveries
            }
            // Redis is new or has lost its data.
            Err(QueueError::NoGroup) if shared.queue.ensure_group().await.is_ok() => {
                shared.redis_is_new.notify_one();
                continue;
            }
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
