//! Filling the queue again after Redis has lost it.
//!
//! If Redis was flushed, has started empty, or its stream was trimmed by hand, all pending orders are published at
//! once, instead of when each has been pending for too long. All workers do it together: they agree on one time through
//! Redis, and the database marks each order that one of them has taken.

use holdfast_domain::OrderId;
use holdfast_queue::Loss;
use jiff::Timestamp;

use crate::{
    context::WorkerContext,
    sweep::{MaintenanceError, REFILL_STEP_MAX, job, sweep},
};

/// Publishes all pending orders again if the queue has lost some.
pub(crate) async fn refill(shared: &WorkerContext) -> Result<(), MaintenanceError> {
    let mut loss = shared.queue.loss(None).await?;
    if loss == Loss::New {
        let now =
            shared.store.clock().await.inspect_err(|error| shared.health.database(Some(error)))?;
        loss = shared.queue.loss(Some(now.as_microsecond())).await?;
    }
    let Loss::Before(before) = loss else { return Ok(()) };
    // A time out of range was written by another program.
    let lost_before = Timestamp::from_microsecond(before).unwrap_or(Timestamp::MAX);
    // At the first start of all workers, an empty queue looks the same, so this is not a warning.
    tracing::info!(%lost_before, "the queue is new or has lost orders; publishing all pending orders");
    set_aside(shared).await?;
    sweep(shared, Some(lost_before)).await?;
    shared.queue.refilled(before).await?;
    tracing::info!("the queue has all pending orders again");
    Ok(())
}

/// Sets orders aside whose next attempt is due later.
async fn set_aside(shared: &WorkerContext) -> Result<(), MaintenanceError> {
    let mut after = OrderId(0);
    loop {
        let horizon = shared.settings.horizon();
        let found = shared
            .store
            .set_aside(horizon, after, REFILL_STEP_MAX)
            .await
            .inspect_err(|error| shared.health.database(Some(error)))?;
        let Some((last, _)) = found.last() else { return Ok(()) };
        after = last.order_id;
        let jobs: Vec<_> = found.into_iter().map(|(lost, delay)| (job(lost), delay)).collect();
        shared.queue.set_aside(&jobs).await?;
    }
}
