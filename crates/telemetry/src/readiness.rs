//! Whether a process wants work.

use std::sync::Arc;

use tokio::sync::watch;

/// Whether a process wants work, and why not. Cheap to clone; begins as not ready.
///
/// `/readyz` only looks at it, so a probe never waits for a database.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<watch::Sender<Result<(), &'static str>>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Err("starting"))))
    }
}

impl Readiness {
    /// From now on the process wants work.
    pub fn ready(&self) {
        let _before = self.0.send_replace(Ok(()));
    }

    /// From now on it does not, for `reason` (which the probe's answer shows).
    pub fn not_ready(&self, reason: &'static str) {
        let _before = self.0.send_replace(Err(reason));
    }

    /// How it stands.
    ///
    /// # Errors
    /// Why the process wants no work.
    pub fn get(&self) -> Result<(), &'static str> {
        *self.0.borrow()
    }

    /// Waits until the process wants work. Cancellation safe.
    pub async fn until_ready(&self) {
        // The sender lives in `self`, so the channel cannot close.
        let _ = self.0.subscribe().wait_for(Result::is_ok).await;
    }
}
