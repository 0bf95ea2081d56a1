//! Whether transactions that do not end have written idempotency keys.
//!
//! A batch that writes such a key waits while it has locked its products. This happens once. From then on, and for a
//! while after such a key was last found, batches check their keys before they lock products.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// How long batches check their keys after such a key was last found.
const FOR: Duration = Duration::from_secs(10);

/// See the module documentation.
pub(crate) struct SuspectKeys {
    started: Instant,
    /// In milliseconds since the start.
    until: AtomicU64,
}

impl SuspectKeys {
    pub fn new() -> Self {
        Self { started: Instant::now(), until: AtomicU64::new(0) }
    }

    /// Records that there is or may be such a key.
    pub fn suspect(&self) {
        self.until.store(self.millis(FOR), Ordering::Relaxed);
    }

    /// Whether there may be such keys.
    pub fn any(&self) -> bool {
        self.millis(Duration::ZERO) < self.until.load(Ordering::Relaxed)
    }

    fn millis(&self, later: Duration) -> u64 {
        u64::try_from((self.started.elapsed() + later).as_millis()).unwrap_or(u64::MAX)
    }
}
