//! Limits log lines that clients can cause.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Allows one log line per second.
#[derive(Debug, Default)]
pub struct LogLimit(Mutex<Option<Instant>>);

impl LogLimit {
    /// Whether a line may be logged now.
    pub fn allows(&self) -> bool {
        let now = Instant::now();
        let mut logged = self.0.lock();
        let allowed = logged.is_none_or(|last| now - last >= Duration::from_secs(1));
        if allowed {
            *logged = Some(now);
        }
        allowed
    }
}
