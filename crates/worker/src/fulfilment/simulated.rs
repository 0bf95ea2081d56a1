//! Simulated fulfilment for demos and benchmarks.

use std::time::Duration;

use rand::Rng as _;

use super::{FulfilError, Fulfilment, OrderToFulfil};

/// Takes a configured time, and fails at a configured rate. It has no effect outside, so a failed attempt certainly had
/// none. An attempt whose worker died still counts as one that may have taken effect.
#[derive(Clone, Copy, Debug)]
pub struct Simulated {
    /// How long each order takes; zero completes at once.
    pub duration: Duration,
    /// The percentage of attempts that fail, 0 to 100.
    pub fail_percent: u8,
}

impl Fulfilment for Simulated {
    async fn fulfil(&self, work: OrderToFulfil) -> Result<(), FulfilError> {
        work.handover.not_taken();
        if !self.duration.is_zero() {
            tokio::time::sleep(self.duration).await;
        }
        if self.fail_percent > 0 && rand::rng().random_range(0..100) < self.fail_percent {
            return Err(FulfilError::Retry("a simulated failure".to_owned()));
        }
        Ok(())
    }
}
