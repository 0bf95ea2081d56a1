//! The circuit breaker: whether Redis is used, and the invalidations that it has missed.
//!
//! ```text
//!       a call failed           what was owed is delivered         nothing is owed,
//!   Up ───────────────▶ Down ─────────────────────────────▶ Settling ─────────────▶ Up
//!                         ▲           a call failed            │     and a quarantine
//!                         └────────────────────────────────────┘     has passed
//! ```
//! In `Down` no caller waits for Redis: invalidations are kept as owed, reads skip Redis, and a background task tries to
//! connect. In `Settling` new invalidations are delivered directly again, but nothing is read, because other replicas may still
//! be delivering what they owe. In `Up` nothing is owed, so a replica never reads a product from Redis whose invalidation it has
//! not delivered.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RedisPhase {
    Down,
    Settling,
    Up,
}

/// Fences that Redis has missed.
#[derive(Default)]
struct Owed {
    /// The highest version by product.
    fences: HashMap<i64, i64>,
    /// How many times there were too many fences to keep. If not zero, all products count as
    /// changed.
    overflows: u64,
}

/// What was owed at one moment.
pub(crate) struct Debt {
    pub(crate) fences: Vec<(i64, i64)>,
    /// If not zero, delete everything first. The number is for [`RedisHealth::settle`].
    pub(crate) overflows: u64,
}

pub(crate) struct RedisHealth {
    phase: AtomicU8,
    /// Also locked while the phase changes, so that nothing becomes owed after the last check.
    owed: Mutex<Owed>,
    limit: usize,
}

impl RedisHealth {
    pub(crate) fn new(limit: usize) -> Self {
        Self { phase: AtomicU8::new(RedisPhase::Down as u8), owed: Mutex::default(), limit }
    }

    pub(crate) fn phase(&self) -> RedisPhase {
        match self.phase.load(Ordering::Acquire) {
            2 => RedisPhase::Up,
            1 => RedisPhase::Settling,
            _ => RedisPhase::Down,
        }
    }

    fn set(&self, phase: RedisPhase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// A call failed.
    pub(crate) fn down(&self) {
        let _owed = self.owed.lock();
        self.set(RedisPhase::Down);
    }

    /// Keeps fences as owed if Redis is down. If it returns false, try to deliver them.
    pub(crate) fn owe_if_down(&self, fences: &[(i64, i64)]) -> bool {
        let mut owed = self.owed.lock();
        if self.phase() != RedisPhase::Down {
            return false;
        }
        owed.add(fences, self.limit);
        true
    }

    /// Fences could not be delivered.
    pub(crate) fn owe(&self, fences: &[(i64, i64)]) {
        let mut owed = self.owed.lock();
        self.set(RedisPhase::Down);
        owed.add(fences, self.limit);
    }

    pub(crate) fn debt(&self) -> Debt {
        let owed = self.owed.lock();
        Debt {
            fences: owed.fences.iter().map(|(id, version)| (*id, *version)).collect(),
            overflows: owed.overflows,
        }
    }

    /// This debt has been delivered, so Redis is `Settling`. Returns whether nothing more is owed.
    pub(crate) fn settle(&self, debt: &Debt) -> bool {
        let mut owed = self.owed.lock();
        for (id, delivered) in &debt.fences {
            if owed.fences.get(id).is_some_and(|version| version <= delivered) {
                owed.fences.remove(id);
            }
        }
        // Otherwise, there was another overflow in the meantime, perhaps of products that the sweep
        // had passed.
        if owed.overflows == debt.overflows {
            owed.overflows = 0;
        }
        // The phase changes even if more is owed by now. From here on, callers deliver their own
        // invalidations, so that the debt ends under a steady stream of changes.
        if self.phase() == RedisPhase::Down {
            self.set(RedisPhase::Settling);
        }
        owed.is_clear()
    }

    /// The quarantine is over. Returns whether Redis is up.
    pub(crate) fn up(&self) -> bool {
        let mut owed = self.owed.lock();
        if self.phase() == RedisPhase::Settling && owed.is_clear() {
            owed.fences.shrink_to_fit();
            self.set(RedisPhase::Up);
        }
        self.phase() == RedisPhase::Up
    }

    pub(crate) fn owed(&self) -> usize {
        let owed = self.owed.lock();
        if owed.overflows == 0 { owed.fences.len() } else { self.limit.saturating_add(1) }
    }
}

impl Owed {
    fn is_clear(&self) -> bool {
        self.fences.is_empty() && self.overflows == 0
    }

    fn add(&mut self, fences: &[(i64, i64)], limit: usize) {
        for &(id, version) in fences {
            if self.fences.len() >= limit && !self.fences.contains_key(&id) {
                self.overflows += 1;
                continue;
            }
            let owed = self.fences.entry(id).or_insert(version);
            *owed = version.max(*owed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repay(health: &RedisHealth) -> bool {
        health.settle(&health.debt())
    }

    #[test]
    fn nothing_is_read_before_all_kept_invalidations_are_delivered() {
        let health = RedisHealth::new(10);
        assert!(repay(&health) && health.up());
        assert!(!health.owe_if_down(&[(1, 5)]), "up: deliver it");

        health.owe(&[(1, 5), (2, 7)]);
        assert_eq!(health.phase(), RedisPhase::Down);
        assert!(health.owe_if_down(&[(1, 4)]), "a lower version changes nothing");
        let debt = health.debt();
        assert!(health.owe_if_down(&[(2, 8)]), "raised while the debt is under way");
        assert!(!health.settle(&debt));
        assert!(!health.owe_if_down(&[(3, 1)]), "delivered again by its caller");
        assert!(!health.up(), "a debt keeps it from being up");
        assert_eq!((health.phase(), health.owed()), (RedisPhase::Settling, 1));
        assert_eq!(health.debt().fences, [(2, 8)]);
        health.down();
        assert!(!health.up(), "it cannot be up before it settles");
        assert!(repay(&health) && health.up());
    }

    #[test]
    fn an_overflow_counts_until_a_sweep_that_began_after_it() {
        let health = RedisHealth::new(2);
        health.owe(&[(1, 1), (2, 1), (3, 1)]);
        assert_eq!(health.owed(), 3);
        let debt = health.debt();
        assert_ne!(debt.overflows, 0);
        health.owe(&[(4, 1)]);
        assert!(!health.settle(&debt), "product 4 may have been passed already");
        assert!(!health.up());
        assert!(repay(&health) && health.up());
        assert_eq!(health.owed(), 0);
    }
}
