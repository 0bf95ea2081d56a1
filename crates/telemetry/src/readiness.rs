//! Whether a process is ready for work.

use std::sync::Arc;

use tokio::sync::watch;

/// Whether a process is ready for work, or the reason why not. Cheap to clone; not ready at the start.
///
/// `/readyz` only reads it, so a probe never waits for a database.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<watch::Sender<Result<(), &'static str>>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Err("starting"))))
    }
}

impl Readiness {
    /// The process is ready from now on.
    pub fn ready(&self) {
        let _before = self.0.send_replace(Ok(()));
    }

    /// The process is not ready from now on. The probe's answer shows `reason`.
    pub fn not_ready(&self, reason: &'static str) {
        let _before = self.0.send_replace(Err(reason));
    }

    /// The current state.
    ///
    /// # Errors
    /// The reason why the process is not ready.
    pub fn get(&self) -> Result<(), &'static str> {
        *self.0.borrow()
    }

    /// Waits until the process is ready. Cancellation safe.
    pub async fn until_ready(&self) {
        // The sender lives in `self`, so the channel cannot close.
        let _ = self.0.subscribe().wait_for(Result::is_ok).await;
    }
}
