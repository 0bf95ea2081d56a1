//! The maintenance tasks, and how often they run.

use std::time::Duration;

/// Tasks that are not urgent run once in this many sweep intervals.
const SELDOM: u32 = 5;
/// How often the pause doubles after failures.
const DOUBLINGS_MAX: u32 = 2;

/// Every worker runs all tasks. Several workers may run the same task at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum MaintenanceTask {
    /// Measures the depth of the queue.
    QueueDepth,
    /// Publishes orders whose next attempt is due.
    DueRetries,
    /// Publishes orders that the queue has lost.
    LostOrders,
    /// Counts the dead letters.
    DeadLetters,
    /// Removes acknowledged entries from the queue.
    QueueTrim,
    /// Removes consumers that no longer exist from the group.
    IdleConsumers,
    /// Deletes expired idempotency keys.
    OldKeys,
}

impl MaintenanceTask {
    pub const ALL: [Self; 7] = [
        Self::QueueDepth,
        Self::DueRetries,
        Self::LostOrders,
        Self::DeadLetters,
        Self::QueueTrim,
        Self::IdleConsumers,
        Self::OldKeys,
    ];

    /// The value of the metrics' label `task`.
    pub fn label(self) -> &'static str {
        match self {
            Self::QueueDepth => "queue_depth",
            Self::DueRetries => "due_retries",
            Self::LostOrders => "lost_orders",
            Self::DeadLetters => "dead_letters",
            Self::QueueTrim => "queue_trim",
            Self::IdleConsumers => "idle_consumers",
            Self::OldKeys => "old_keys",
        }
    }

    /// The pause between two runs that succeed.
    fn interval(self, sweep_interval: Duration) -> Duration {
        match self {
            Self::QueueDepth | Self::DueRetries | Self::LostOrders | Self::DeadLetters => {
                sweep_interval
            }
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
            assert!(MaintenanceTask::ALL[..at].iter().all(|other| other.label() != task.label()));
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
