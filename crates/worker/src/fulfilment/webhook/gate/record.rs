//! What the answers so far show about the receiver.

use std::time::Duration;

use tokio::time::Instant;

/// The weight of the newest answer in the moving averages.
const WEIGHT: f64 = 1.0 / 16.0;
/// If at least this share of orders succeeds at the first attempt, a failure is the order's own.
const SUCCESSES: f64 = 0.8;
/// If the receiver answered at most this long before a request was sent, it was up at that time.
const RECENT: Duration = Duration::from_secs(2);
/// A request hangs if it takes this many times as long as the average answer, and at least [`HANGS_AFTER`].
const HANGS_FACTOR: u32 = 10;
const HANGS_AFTER: Duration = Duration::from_secs(1);
/// The part of the time limit after which a request hangs while no answer is known.
const HANGS_PART: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct AnswerRecord {
    /// Of the orders that were sent for the first time, the share that succeeded; a moving average.
    successes: f64,
    /// The last answer that showed the receiver up.
    last_up: Option<Instant>,
    /// How long such answers take; a moving average.
    average: Option<Duration>,
}

impl AnswerRecord {
    pub fn up(&mut self, first: bool, sent: Instant) {
        let (now, took) = (Instant::now(), sent.elapsed());
        self.last_up = Some(now);
        self.average = Some(match self.average {
            None => took,
            Some(average) => average.mul_f64(1.0 - WEIGHT) + took.mul_f64(WEIGHT),
        });
        if first {
            self.successes += WEIGHT * (1.0 - self.successes);
        }
    }

    pub fn down(&mut self, first: bool) {
        if first {
            self.successes -= WEIGHT * self.successes;
        }
    }

    /// Whether the receiver answered another order since this time.
    pub fn up_since(&self, sent: Instant) -> bool {
        self.last_up.is_some_and(|up| up >= sent)
    }

    /// Whether the receiver fulfilled nearly all other orders when a request, sent at that time, failed.
    pub fn fulfils_others(&self, sent: Instant) -> bool {
        self.successes >= SUCCESSES && self.last_up.is_some_and(|up| up + RECENT >= sent)
    }

    /// The time after which a request hangs.
    pub fn hangs_after(&self, timeout: Duration) -> Duration {
        match self.average {
            Some(average) => average.saturating_mul(HANGS_FACTOR).max(HANGS_AFTER),
            None => timeout / HANGS_PART,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_the_orders_own_only_if_nearly_all_others_succeed() {
        let mut record = AnswerRecord::default();
        assert!(!record.fulfils_others(Instant::now()));
        (0..50).for_each(|_| record.up(true, Instant::now()));
        assert!(record.fulfils_others(Instant::now()));
        // Orders that have failed before show nothing about the others.
        (0..50).for_each(|_| record.down(false));
        assert!(record.fulfils_others(Instant::now()));
        tokio::time::advance(RECENT * 2).await;
        assert!(!record.fulfils_others(Instant::now()), "it may be down by now");
        record.up(true, Instant::now());
        (0..5).for_each(|_| record.down(true));
        assert!(!record.fulfils_others(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_hangs_if_it_takes_much_longer_than_others() {
        let mut record = AnswerRecord::default();
        let timeout = Duration::from_secs(15);
        assert_eq!(record.hangs_after(timeout), Duration::from_secs(5));
        record.up(true, Instant::now());
        assert_eq!(record.hangs_after(timeout), HANGS_AFTER);
        for _ in 0..50 {
            let sent = Instant::now();
            tokio::time::advance(Duration::from_secs(8)).await;
            record.up(false, sent);
        }
        assert!(record.hangs_after(timeout) > timeout, "a slow receiver is not a hung one");
    }
}
