//! What it means to fulfil an order.

use std::time::Duration;

use holdfast_domain::{OrderId, ProductId, Quantity};
use rand::Rng as _;

/// An order to be fulfilled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// Which order. Stable over all tries: a receiver can tell a repeat by it.
    pub order_id: OrderId,
    /// How often it has been tried, this time included.
    pub tries: i32,
    /// What was ordered.
    pub product_id: ProductId,
    /// How many units.
    pub quantity: Quantity,
}

/// Why an order was not fulfilled, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FulfilError {
    /// It may work later.
    #[error("{0}")]
    Retry(String),
    /// It will never work.
    #[error("{0}")]
    Fail(String),
}

/// Fulfils orders.
///
/// An order may be handed over more than once: after a retry, or when a worker died or lost its
/// lease. Whatever it does outside must tell a repeat by the order's id.
pub trait Fulfilment: Send + Sync + 'static {
    /// Fulfils one order. Dropped in the middle if the worker has to end.
    fn fulfil(&self, work: Work) -> impl Future<Output = Result<(), FulfilError>> + Send;
}

/// Fulfilment for demos: takes a set time, and fails at a set rate.
#[derive(Clone, Copy, Debug)]
pub struct Simulated {
    /// How long each order takes. Zero is no work at all.
    pub duration: Duration,
    /// How many of a hundred tries fail: 0 to 100.
    pub fail_percent: u8,
}

impl Fulfilment for Simulated {
    async fn fulfil(&self, _work: Work) -> Result<(), FulfilError> {
        if !self.duration.is_zero() {
            tokio::time::sleep(self.duration).await;
        }
        if self.fail_percent > 0 && rand::rng().random_range(0..100) < self.fail_percent {
            return Err(FulfilError::Retry("a simulated failure".to_owned()));
        }
        Ok(())
    }
}
