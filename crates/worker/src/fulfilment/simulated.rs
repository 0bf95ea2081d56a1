//! Fulfilment for demos and benchmarks.

use std::time::Duration;

use rand::Rng as _;

use super::{FulfilError, Fulfilment, Work};

/// Takes a set time, and fails at a set rate. Nobody is told of anything, so a try that does not end well has
/// certainly not been taken; one whose worker died counts as taken, because nobody knows.
#[derive(Clone, Copy, Debug)]
pub struct Simulated {
    /// How long each order takes. Zero is no work at all.
    pub duration: Duration,
    /// How many of a hundred tries fail: 0 to 100.
    pub fail_percent: u8,
}

impl Fulfilment for Simulated {
    async fn fulfil(&self, work: Work) -> Result<(), FulfilError> {
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
