//! The sweep: publishes pending orders that should be in the queue but are not.

use std::time::Duration;

use holdfast_queue::{Job, QueueError};
use holdfast_store::{
    StoreError,
    fulfilment::{SweepRule, Swept},
};
use jiff::Timestamp;

use crate::context::{JobSettings, WorkerContext};

/// The most retries that are published, and lost orders that are found, in one step.
pub(crate) const STEP_MAX: u32 = 1000;
/// The same while the whole queue is lost.
pub(crate) const REFILL_STEP_MAX: u32 = 5000;
/// The largest clock error that is tolerated.
const CLOCK_TOLERANCE: Duration = Duration::from_mins(1);

#[derive(Debug, thiserror::Error)]
pub(crate) enum MaintenanceError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Publishes pending orders that should be in the queue but are not. Those that have been pending since before `lost_before`
/// are not in it, because it was lost at that time.
pub(crate) async fn sweep(
    shared: &WorkerContext,
    lost_before: Option<Timestamp>,
) -> Result<(), MaintenanceError> {
    // A consumer group that is ahead of its stream delivers nothing and reports no error.
    shared.queue.mend().await?;
    let waiting = shared.queue.oldest_waiting().await?.unwrap_or_default();
    // The rest of a queue that has lost orders does not show their age.
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
