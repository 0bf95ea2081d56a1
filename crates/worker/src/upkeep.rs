//! What is done from time to time: retries that are due, orders that were lost, the queue's length.

use std::{sync::Arc, time::Duration};

use holdfast_queue::{Job, QueueError};
use rand::Rng as _;

use crate::run::Shared;

/// The most retries that are put back, and orders that are found, in one step.
const STEP_MAX: u32 = 1000;
/// A worker that has not been heard of for so long, and holds nothing, is forgotten.
const CONSUMER_IDLE: Duration = Duration::from_hours(1);

/// Does the upkeep for ever. Each worker does all of it; two at once share the work.
pub(crate) async fn upkeep(shared: Arc<Shared>) {
    loop {
        // Spread, so that many workers do not do it all at the same moment.
        let jitter = rand::rng().random_range(0.75..=1.25);
        tokio::time::sleep(shared.settings.sweep_interval.mul_f64(jitter)).await;
        if let Err(error) = round(&shared).await {
            shared.metrics.depth.set(f64::NAN);
            tracing::debug!(error = &*error, "the upkeep was broken off");
        }
    }
}

async fn round(shared: &Shared) -> Result<(), Box<dyn std::error::Error>> {
    let queue = &shared.queue;
    match queue.depth().await {
        #[allow(clippy::cast_precision_loss)] // a queue of 2^53 orders has other problems
        Ok(depth) => shared.metrics.depth.set(depth.total() as f64),
        // Redis has lost its data. Nothing waits in the queue then, and the sweep is needed most.
        Err(QueueError::NoGroup) => queue.ensure_group().await?,
        Err(error) => return Err(error.into()),
    }
    while queue.promote_due(STEP_MAX as usize).await? == STEP_MAX as usize {}
    sweep(shared).await?;
    queue.trim().await?;
    queue.forget_consumers(CONSUMER_IDLE).await?;
    Ok(())
}

/// Publishes again what is not in the queue though it should be.
async fn sweep(shared: &Shared) -> Result<(), Box<dyn std::error::Error>> {
    // An order that is younger than the oldest message in the queue may well be in the queue
    // itself, waiting its turn: publishing it again would only make a long queue longer.
    let oldest = shared.queue.oldest_waiting().await?.unwrap_or_default();
    let older_than = oldest + shared.settings.sweep_after;
    loop {
        let lost = match shared.store.sweep(STEP_MAX, older_than).await {
            Ok(lost) => lost,
            Err(error) => {
                shared.health.database(Some(&error));
                return Err(error.into());
            }
        };
        if lost.is_empty() {
            return Ok(());
        }
        tracing::info!(orders = lost.len(), "orders that had been lost are published again");
        shared.metrics.swept.inc_by(lost.len() as u64);
        let full = lost.len() == STEP_MAX as usize;
        let jobs: Vec<_> = lost
            .into_iter()
            .map(|lost| Job { order_id: lost.order_id.0, trace_context: lost.trace_context })
            .collect();
        shared.queue.publish_many(&jobs).await?;
        if !full {
            return Ok(());
        }
    }
}
