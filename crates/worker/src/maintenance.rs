//! Maintenance: the periodic jobs of a worker. Each task runs independently, with its own interval and its own pause after a
//! failure, so that none waits for another: while Redis is down, old idempotency keys are still deleted from PostgreSQL.

use std::{sync::Arc, time::Duration};

use holdfast_queue::{Job, QueueError};
use holdfast_store::{
    StoreError,
    fulfilment::{SweepRule, Swept},
};
use jiff::Timestamp;
use rand::Rng as _;

use crate::{
    context::{JobSettings, WorkerContext},
    maintenance_task::MaintenanceTask,
    refill,
};

/// The most retries that are published, and lost orders that are found, in one step.
const STEP_MAX: u32 = 1000;
/// The same while the whole queue is lost.
pub(crate) const REFILL_STEP_MAX: u32 = 5000;
/// The most idempotency keys that are deleted in one step.
const PURGE_MAX: u32 = 5000;
/// The largest clock error that is tolerated.
const CLOCK_TOLERANCE: Duration = Duration::from_mins(1);
/// The most dead letters that are counted.
const DEAD_LETTERS_MAX: u32 = 10_000;
/// A consumer with no messages is removed from the group after it has been idle this long.
const CONSUMER_IDLE: Duration = Duration::from_hours(1);

#[derive(Debug, thiserror::Error)]
pub(crate) enum MaintenanceError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MaintenanceTask {
    async fn run(self, shared: &WorkerContext) -> Result<(), MaintenanceError> {
        let queue = &shared.queue;
        match self {
            Self::QueueDepth => match queue.whole_depth().await {
                // What is left would look like a short queue.
                Err(QueueError::Incomplete) => self.set_unknown(shared),
                depth => shared.metrics.depth(depth?),
            },
            Self::DueRetries => {
                while queue.promote_due(STEP_MAX as usize).await? == STEP_MAX as usize {}
            }
            Self::LostOrders => {
                refill::refill(shared).await?;
                sweep(shared, None).await?;
            }
            Self::DeadLetters => {
                let dead = shared.store.count_dead_letters(DEAD_LETTERS_MAX).await?;
                shared.metrics.dead_letters.set(f64::from(dead));
            }
            Self::QueueTrim => {
                queue.trim().await?;
            }
            Self::IdleConsumers => {
                queue.forget_consumers(CONSUMER_IDLE).await?;
            }
            Self::OldKeys => {
                let age = shared.settings.idempotency_age;
                let step = u64::from(PURGE_MAX);
                while shared.store.purge_idempotency_keys(age, PURGE_MAX).await? == step {}
            }
        }
        Ok(())
    }

    /// Sets what the task measures to unknown, so that it does not keep its last value.
    fn set_unknown(self, shared: &WorkerContext) {
        match self {
            Self::QueueDepth => shared.metrics.unknown_depth(),
            Self::LostOrders => shared.metrics.oldest_age.set(f64::NAN),
            Self::DeadLetters => shared.metrics.dead_letters.set(f64::NAN),
            _ => {}
        }
    }
}

/// Runs a task again and again.
pub(crate) async fn repeat(task: MaintenanceTask, shared: Arc<WorkerContext>) {
    let mut failures = 0;
    loop {
        // Spread, so that many workers do not run it at the same moment.
        let jitter = rand::rng().random_range(0.75..=1.25);
        let pause = task.pause(shared.settings.sweep_interval, failures);
        let pause = tokio::time::sleep(pause.mul_f64(jitter));
        if task == MaintenanceTask::LostOrders {
            tokio::select! {
                () = pause => {}
                () = shared.redis_is_new.notified() => {}
            }
        } else {
            pause.await;
        }
        match attempt(task, &shared).await {
            Ok(()) => {
                failures = 0;
                shared.health.maintenance(task, None);
                shared.metrics.maintained(task);
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                task.set_unknown(&shared);
                shared.health.maintenance(task, Some(&error));
                shared.metrics.not_maintained(task);
            }
        }
    }
}

async fn attempt(task: MaintenanceTask, shared: &WorkerContext) -> Result<(), MaintenanceError> {
    match task.run(shared).await {
        // Redis has lost its data. The queue is empty then, and the sweep must fill it again.
        Err(MaintenanceError::Queue(QueueError::NoGroup)) => {
            task.set_unknown(shared);
            shared.queue.ensure_group().await?;
            shared.redis_is_new.notify_one();
            Ok(())
        }
        result => result,
    }
}

/// Publishes pending orders that should be in the queue but are not. Those that have been pending since before `lost_before`
/// are not in it, because it was lost at that time.
pub(crate) async fn sweep(
    shared: &WorkerContext,
    lost_before: Option<Timestamp>,
) -> Result<(), MaintenanceError> {
    // A group that delivers nothing shows no error.
    shared.queue.mend().await?;
    let waiting = shared.queue.oldest_waiting().await?.unwrap_or_default();
    // What is left of a queue that has lost orders says nothing of their age.
    let shown = if lost_before.is_some() { f64::NAN } else { waiting.as_secs_f64() };
    shared.metrics.oldest_age.set(shown);
    let settings = &shared.settings;
    let rule = SweepRule {
        waiting,
        lost_after: settings.sweep_after,
        lost_before,
        horizon: settings.horizon(),
        limit: if lost_before.is_some() { REFILL_STEP_MAX } else { STEP_MAX },
    };
    let mut from = None;
    loop {
        let (lost, next) = shared
            .store
            .sweep(rule, from)
            .await
            .inspect_err(|error| shared.health.database(Some(error)))?;
        // An idle worker learns only here whether the database answers.
        shared.health.database(None);
        if !lost.is_empty() {
            tracing::info!(orders = lost.len(), "published lost orders again");
            shared.metrics.swept.inc_by(lost.len() as u64);
            let jobs: Vec<_> = lost.into_iter().map(job).collect();
            shared.queue.publish_many(&jobs).await?;
        }
        from = next;
        if from.is_none() {
            return Ok(());
        }
    }
}

pub(crate) fn job(lost: Swept) -> Job {
    Job { order_id: lost.order_id.0, trace_context: lost.trace_context }
}

impl JobSettings {
    /// Longer than any lease and any delay before the next attempt. Twice, because other workers may have other settings.
    pub fn horizon(&self) -> Duration {
        self.lease.max(self.backoff.max) * 2 + CLOCK_TOLERANCE
    }
}
