//! The fulfilment of an order.
//!
//! | file | subject |
//! |---|---|
//! | `handover` | whether an attempt may have taken effect |
//! | `simulated` | for demos and benchmarks |
//! | `webhook` | by a receiver over HTTP |
//!
//! A worker records an attempt in the database before it hands the order over. From then on the attempt may have taken
//! effect: the order may be fulfilled and cannot be cancelled. A fulfilment that knows that it had no effect says so with
//! [`Handover::not_taken`].

mod handover;
mod simulated;
pub mod webhook;

use std::time::Duration;

use holdfast_domain::{CustomerRef, Metadata, OrderId, OrderLine};
use jiff::Timestamp;

pub use handover::Handover;
pub use simulated::Simulated;

/// An order to be fulfilled.
#[derive(Clone, Debug)]
pub struct OrderToFulfil {
    /// After a restore of the database, another order may get the same id.
    pub order_id: OrderId,
    /// Together with the id it is unique for ever. `None` for orders from before it was introduced.
    pub nonce: Option<i64>,
    /// Whether this attempt may have taken effect.
    pub handover: Handover,
    /// The number of attempts that count, including this one.
    pub tries: i32,
    /// Whether an earlier attempt has reached the receiver, or counts, and did not complete the order.
    pub failed_before: bool,
    pub created_at: Timestamp,
    /// At least one.
    pub lines: Vec<OrderLine>,
    /// The shop's reference for the customer.
    pub customer_ref: Option<CustomerRef>,
    pub metadata: Option<Metadata>,
}

/// Why an order was not fulfilled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FulfilError {
    /// Another attempt may succeed.
    #[error("{0}")]
    Retry(String),
    /// No attempt will succeed.
    #[error("{0}")]
    Fail(String),
    /// Orders cannot be fulfilled at the moment, which is not this order's fault. Another attempt may succeed. This one does
    /// not count until [`WorkerSettings::retry_for`](crate::WorkerSettings::retry_for) has passed since the order was
    /// accepted or replayed.
    #[error("{reason}")]
    Unavailable {
        reason: String,
        /// The least time to wait, if the receiver asked for one.
        after: Option<Duration>,
    },
}

/// Fulfils orders.
///
/// An order may be handed over more than once: on a retry, or when a worker died or lost its lease. Effects outside must
/// recognize a repeat by the order's id and nonce.
pub trait Fulfilment: Send + Sync + 'static {
    /// Fulfils one order. The future is dropped if the worker ends or loses its claim. The state of
    /// [`OrderToFulfil::handover`] at that time is recorded.
    fn fulfil(&self, work: OrderToFulfil) -> impl Future<Output = Result<(), FulfilError>> + Send;

    /// Waits until it accepts more orders, then returns how many. The worker reads no more than that from the queue, so that
    /// other workers can take the rest. Cancellation safe.
    fn room(&self) -> impl Future<Output = usize> + Send {
        std::future::ready(usize::MAX)
    }

    /// How long orders in flight may still take at shutdown, if that is less than the worker's own limit. Orders that are not
    /// finished by then are handed back, and another worker fulfils them with the same id.
    fn shutdown_time(&self) -> Option<Duration> {
        None
    }
}
