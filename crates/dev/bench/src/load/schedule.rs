//! When the requests of an open loop are due.

use std::time::Duration;

/// Evenly spaced times, in nanoseconds since the start. A request keeps its time even if it is sent late.
#[derive(Debug)]
pub(super) struct Schedule {
    interval_ns: f64,
    patience_ns: u64,
    /// The number of requests that were sent or dropped.
    taken: u64,
    end_ns: u64,
}

impl Schedule {
    pub fn new(per_second: f64, patience: Duration, end_ns: u64) -> Self {
        Self {
            interval_ns: 1e9 / per_second.max(f64::MIN_POSITIVE),
            patience_ns: patience.as_nanos() as u64,
            taken: 0,
            end_ns,
        }
    }

    fn due_ns(&self, number: u64) -> u64 {
        (number as f64 * self.interval_ns) as u64
    }

    /// The time of the next request, if it is not later than `now_ns`.
    pub fn next_due(&self, now_ns: u64) -> Option<u64> {
        let due = self.due_ns(self.taken);
        (due <= now_ns && due < self.end_ns).then_some(due)
    }

    /// Marks the next request as sent.
    pub fn take(&mut self) {
        self.taken += 1;
    }

    /// Drops the next request if it has waited for too long; returns the time at which it was due.
    pub fn give_up(&mut self, now_ns: u64) -> Option<u64> {
        let due = self.next_due(now_ns)?;
        (now_ns.saturating_sub(due) > self.patience_ns).then(|| {
            self.taken += 1;
            due
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_keep_their_scheduled_time_even_if_late() {
        let mut schedule = Schedule::new(1000.0, Duration::from_millis(5), 10_000_000);
        assert_eq!(schedule.next_due(0), Some(0));
        schedule.take();
        assert_eq!(schedule.next_due(999_999), None);
        assert_eq!(schedule.next_due(4_000_000), Some(1_000_000));
        assert_eq!(schedule.give_up(4_000_000), None);
        assert_eq!(schedule.give_up(7_000_000), Some(1_000_000));
        assert_eq!(schedule.next_due(7_000_000), Some(2_000_000));
    }

    #[test]
    fn nothing_is_due_after_the_end() {
        let mut schedule = Schedule::new(1000.0, Duration::from_secs(1), 3_000_000);
        let mut sent = 0;
        while schedule.next_due(u64::MAX).is_some() {
            schedule.take();
            sent += 1;
        }
        assert_eq!(sent, 3);
    }
}
