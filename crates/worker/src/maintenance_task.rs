//! The maintenance tasks, and how often they run.

use std::time::Duration;

use holdfast_domain::named;

/// Tasks that are not urgent run once in this many sweep intervals.
const SELDOM: u32 = 5;
/// How often the pause doubles after failures.
const DOUBLINGS_MAX: u32 = 2;

named! {
    /// Every worker runs all tasks. Several workers may run the same task at the same time. The names are the values of the
    /// metrics' label `task`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(u8)]
    pub(crate) enum MaintenanceTask {
        /// Measures the depth of the queue.
        QueueDepth = "queue_depth",
        /// Publishes orders whose next attempt is due.
        DueRetries = "due_retries",
        /// Publishes orders that the queue has lost.
        LostOrders = "lost_orders",
        /// Counts the dead letters.
        DeadLetters = "dead_letters",
        /// Removes acknowledged entries from the queue.
        QueueTrim = "queue_trim",
        /// Removes consumers that no longer exist from the group.
        IdleConsumers = "idle_consumers",
        /// Deletes expired idempotency keys.
        OldKeys = "old_keys",
        /// Makes new statistics of tables that have grown fast.
        Statistics = "statistics",
    }
}

impl MaintenanceTask {
    /// The pause between two runs that succeed.
    fn interval(self, sweep_interval: Duration) -> Duration {
        match self {
            Self::QueueDepth
            | Self::DueRetries
            | Self::LostOrders
            | Self::DeadLetters
            | Self::Statistics => sweep_interval,
            Self::QueueTrim | Self::IdleConsumers | Self::OldKeys => sweep_interval * SELDOM,
        }
    }

    /// The pause after this many consecutive failures.
    pub fn pause(self, sweep_interval: Duration, failures: u32) -> Duration {
        self.interval(sweep_interval) * 2_u32.pow(failures.min(DOUBLINGS_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_has_its_own_label_and_bit() {
        for (at, task) in MaintenanceTask::ALL.into_iter().enumerate() {
            assert_eq!(task as usize, at);
            assert!(MaintenanceTask::ALL[..at].iter().all(|other| other.as_str() != task.as_str()));
        }
        assert!(MaintenanceTask::ALL.len() <= 8, "the health of the tasks is kept in 8 bits");
    }

    #[test]
    fn the_delay_after_failures_grows_to_a_limit_and_ends_with_a_success() {
        let second = Duration::from_secs(1);
        let pauses = [0, 1, 2, 3, u32::MAX]
            .map(|failures| MaintenanceTask::LostOrders.pause(second, failures));
        assert_eq!(pauses.map(|pause| pause.as_secs()), [1, 2, 4, 4, 4]);
        assert_eq!(MaintenanceTask::OldKeys.pause(second, 0), second * SELDOM);
    }
}
