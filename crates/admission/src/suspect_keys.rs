//! Whether transactions of others are about that have written idempotency keys and do not end.
//!
//! A batch that writes such a key waits with its products locked. That happens once: from then on, and for a while
//! after the last such key was seen, batches look for them first.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// How long batches look for such keys after the last one was seen.
const FOR: Duration = Duration::from_secs(10);

/// See the module's head.
pub(super) struct SuspectKeys {
    started: Instant,
    /// In milliseconds from the start.
    until: AtomicU64,
}

impl SuspectKeys {
    pub fn new() -> Self {
        Self { started: Instant::now(), until: AtomicU64::new(0) }
    }

    /// There is such a key, or it looks like it.
    pub fn suspect(&self) {
        self.until.store(self.millis(FOR), Ordering::Relaxed);
    }

    /// Whether there may be any.
    pub fn any(&self) -> bool {
        self.millis(Duration::ZERO) < self.until.load(Ordering::Relaxed)
    }

    fn millis(&self, later: Duration) -> u64 {
        u64::try_from((self.started.elapsed() + later).as_millis()).unwrap_or(u64::MAX)
    }
}
