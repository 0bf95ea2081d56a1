//! How long one batch waits for another.
//!
//! If two replicas sell the same product, a batch of one hands the row over to a batch of the other within
//! milliseconds. For that, a session may wait in the database: the server queues the sessions fairly, and the next one
//! gets the row at once. A transaction that keeps a row locked for longer is not a batch, and nothing else can use the
//! connection that waits for it. So the wait is limited to a small multiple of the time that recent batches of this
//! process have needed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// The shortest limit. Also the limit for anything else that a batch waits for while it has locked rows.
pub(crate) const HAND_OVER_MIN: Duration = Duration::from_millis(50);
/// The longest limit.
const HAND_OVER_MAX: Duration = Duration::from_millis(500);
/// The limit as a multiple of the time of our own batches.
const FACTOR: u32 = 4;

/// How long recent batches have kept their rows locked, in microseconds. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct HandOver(Arc<AtomicU64>);

impl HandOver {
    /// Records for how long a batch has kept its rows locked. A longer time counts immediately, a shorter one
    /// gradually.
    pub fn held(&self, held: Duration) {
        let held = u64::try_from(held.as_micros()).unwrap_or(u64::MAX);
        let before = self.0.load(Ordering::Relaxed);
        // Two batches may do this at the same time. It does not matter if one of them is not counted.
        self.0.store(held.max(before - before / 16), Ordering::Relaxed);
    }

    /// The longest wait for a row that another batch has locked, and never more than `lock_timeout`.
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
