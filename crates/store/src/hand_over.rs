//! How long one batch waits for another.
//!
//! Batches of two replicas that sell the same product hand its row over within milliseconds. A wait in the
//! database is good for that: the server queues the sessions fairly, and the next one has the row at once. Whoever
//! holds a row for longer is no batch, and a session that waits for it is a connection lost. So the wait is
//! bounded by a few times what our own batches have needed lately.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// The shortest bound; also the longest wait for anything but a product's row, with the batch's rows locked.
pub(crate) const HAND_OVER_MIN: Duration = Duration::from_millis(50);
/// The longest bound.
const HAND_OVER_MAX: Duration = Duration::from_millis(500);
/// So many times as long as our own batches.
const FACTOR: u32 = 4;

/// For how long batches have held their rows lately, in microseconds. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct HandOver(Arc<AtomicU64>);

impl HandOver {
    /// A batch has held its rows for so long. A longer time counts at once, a shorter one little by little.
    pub fn held(&self, held: Duration) {
        let held = u64::try_from(held.as_micros()).unwrap_or(u64::MAX);
        let before = self.0.load(Ordering::Relaxed);
        // A batch that counts twice or not at all does not matter.
        self.0.store(held.max(before - before / 16), Ordering::Relaxed);
    }

    /// The longest wait for a row that other batches hold, and never more than `lock_timeout`.
    pub fn wait(&self, lock_timeout: Duration) -> Duration {
        let held = Duration::from_micros(self.0.load(Ordering::Relaxed));
        held.saturating_mul(FACTOR).clamp(HAND_OVER_MIN, HAND_OVER_MAX).min(lock_timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_follows_the_batches_within_its_bounds() {
        let (hand_over, limit) = (HandOver::default(), Duration::from_secs(2));
        assert_eq!(hand_over.wait(limit), HAND_OVER_MIN);
        hand_over.held(Duration::from_millis(30));
        assert_eq!(hand_over.wait(limit), Duration::from_millis(120));
        hand_over.held(Duration::from_mins(1));
        assert_eq!(hand_over.wait(limit), HAND_OVER_MAX);
        assert_eq!(hand_over.wait(Duration::from_millis(100)), Duration::from_millis(100));
        for _ in 0..200 {
            hand_over.held(Duration::from_millis(1));
        }
        assert_eq!(hand_over.wait(limit), HAND_OVER_MIN);
    }
}
