//! What is done from time to time: retries that are due, orders that were lost, the queue's length,
//! old idempotency keys.

use std::{sync::Arc, time::Duration};

use holdfast_queue::{Job, QueueError};
use holdfast_store::fulfilment::SweepRule;
use rand::Rng as _;

use crate::shared::Shared;

/// The most retries that are put back, and orders that are found, in one step.
const STEP_MAX: u32 = 1000;
/// The most idempotency keys that are forgotten in one step.
const PURGE_MAX: u32 = 5000;
/// So much a clock may be off before what it said is not believed.
const CLOCK_TOLERANCE: Duration = Duration::from_mins(1);
/// The most dead letters that are counted.
const DEAD_LETTERS_MAX: u32 = 10_000;
/// A worker that has not been heard of for so long, and holds nothing, is forgotten.
const CONSUMER_IDLE: Duration = Duration::from_hours(1);

/// Does the upkeep for ever. Each worker does all of it; two at once share the work.
pub(crate) async fn upkeep(shared: Arc<Shared>) {
    loop {
        // Spread, so that many workers do not do it all at the same moment.
        let jitter = rand::rng().random_range(0.75..=1.25);
        tokio::time::sleep(shared.settings.sweep_interval.mul_f64(jitter)).await;
        if let Err(error) = round(&shared).await {
            shared.metrics.upkeep_failures.inc();
            shared.health.upkeep(Some(&*error));
        } else {
            shared.health.upkeep(None);
            shared.metrics.upkeep_at.set(jiff::Timestamp::now().as_duration().as_secs_f64());
        }
    }
}

async fn round(shared: &Shared) -> Result<(), Box<dyn std::error::Error>> {
    let queue = &shared.queue;
    match queue.depth().await {
        Ok(depth) => shared.metrics.depth(depth),
        Err(error) => {
            // Not known, and never to be taken for what it was before.
            shared.metrics.unknown();
            match error {
                // Redis has lost its data. Nothing waits in the queue then, and the sweep is
                // needed most.
                QueueError::NoGroup => queue.ensure_group().await?,
                error => return Err(error.into()),
            }
        }
    }
    while queue.promote_due(STEP_MAX as usize).await? == STEP_MAX as usize {}
    queue.trim().await?;
    queue.forget_consumers(CONSUMER_IDLE).await?;
    sweep(shared).await?;
    let dead = shared.store.count_dead_letters(DEAD_LETTERS_MAX).await?;
    shared.metrics.dead_letters.set(f64::from(dead));
    purge(shared).await
}

/// Forgets idempotency keys that are older than was promised.
async fn purge(shared: &Shared) -> Result<(), Box<dyn std::error::Error>> {
    let age = shared.settings.idempotency_age;
    while shared.store.purge_idempotency_keys(age, PURGE_MAX).await? == u64::from(PURGE_MAX) {}
    Ok(())
}

/// Publishes again what is not in the queue though it should be.
async fn sweep(shared: &Shared) -> Result<(), Box<dyn std::error::Error>> {
    let waiting = shared.queue.oldest_waiting().await?.unwrap_or_default();
    shared.metrics.oldest_age.set(waiting.as_secs_f64());
    let settings = &shared.settings;
    let rule = SweepRule {
        waiting,
        lost_after: settings.sweep_after,
        // Twice, for workers that are set otherwise.
        horizon: settings.lease.max(settings.retry.max) * 2 + CLOCK_TOLERANCE,
        limit: STEP_MAX,
    };
    let mut from = None;
    loop {
        let (lost, next) = shared
            .store
            .sweep(rule, from)
            .await
            .inspect_err(|error| shared.health.database(Some(error)))?;
        // An idle worker hears of the database here only.
        shared.health.database(None);
        if !lost.is_empty() {
            tracing::info!(orders = lost.len(), "orders that had been lost are published again");
            shared.metrics.swept.inc_by(lost.len() as u64);
            let jobs: Vec<_> = lost
                .into_iter()
                .map(|lost| Job { order_id: lost.order_id.0, trace_context: lost.trace_context })
                .collect();
            shared.queue.publish_many(&jobs).await?;
        }
        from = next;
        if from.is_none() {
            return Ok(());
        }
    }
}
