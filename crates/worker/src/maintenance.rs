//! Maintenance: the periodic jobs of a worker. Each task runs independently, with its own interval and its own pause after a
//! failure, so that none waits for another: while Redis is down, old idempotency keys are still deleted from PostgreSQL.

use std::{sync::Arc, time::Duration};

use holdfast_queue::QueueError;
use rand::Rng as _;

use crate::{
    context::WorkerContext,
    maintenance_task::MaintenanceTask,
    refill,
    sweep::{MaintenanceError, STEP_MAX, sweep},
};

/// The most idempotency keys that are deleted in one step.
const PURGE_MAX: u32 = 5000;
/// The most dead letters that are counted.
const DEAD_LETTERS_MAX: u32 = 10_000;
/// A consumer with no messages is removed from the group after it has been idle this long.
const CONSUMER_IDLE: Duration = Duration::from_hours(1);

impl MaintenanceTask {
    async fn run(self, shared: &WorkerContext) -> Result<(), MaintenanceError> {
        let queue = &shared.queue;
        match self {
            Self::QueueDepth => match queue.whole_depth().await {
                // The rest of a queue that has lost orders would look like a short queue.
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
            Self::Statistics => drop(shared.store.refresh_statistics().await?),
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
