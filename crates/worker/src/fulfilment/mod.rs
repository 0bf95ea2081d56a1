//! What it means to fulfil an order.
//!
//! | file | subject |
//! |---|---|
//! | `handover` | whether a try may have been taken |
//! | `simulated` | fulfilment for demos and benchmarks |
//! | `webhook` | fulfilment by somebody else, who is told by HTTP |
//!
//! A worker records an attempt in the database before it hands the order over, and the attempt counts as
//! taken: whatever happens from there on, the order may be fulfilled and cannot be cancelled. Only a
//! fulfilment that knows better says so, by [`Handover::not_taken`].

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
pub struct Work {
    /// Which order. After a restore of the database another order may get the same id.
    pub order_id: OrderId,
    /// With the id it names the order for ever, over all tries; `None` if the order is older than this.
    pub nonce: Option<i64>,
    /// Whether this try may be taken.
    pub handover: Handover,
    /// How often it has been tried, this time included; tries that do not count are left out.
    pub tries: i32,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// What was ordered; at least one.
    pub lines: Vec<OrderLine>,
    /// The shop's own name for the customer.
    pub customer_ref: Option<CustomerRef>,
    /// What the shop keeps with the order.
    pub metadata: Option<Metadata>,
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
    /// Whoever fulfils orders cannot do so at the moment, which is not this order's fault: it may
    /// work later, and until [`WorkerSettings::retry_for`](crate::WorkerSettings::retry_for) has
    /// passed since the order was accepted or replayed, this try does not count.
    #[error("{reason}")]
    Unavailable {
        /// What is wrong.
        reason: String,
        /// The least time to wait, where that was said.
        after: Option<Duration>,
    },
}

/// Fulfils orders.
///
/// An order may be handed over more than once: after a retry, or when a worker died or lost its
/// lease. Whatever it does outside must tell a repeat by the order's id and nonce.
pub trait Fulfilment: Send + Sync + 'static {
    /// Fulfils one order. Dropped in the middle if the worker has to end; what [`Work::handover`] says
    /// then is written.
    fn fulfil(&self, work: Work) -> impl Future<Output = Result<(), FulfilError>> + Send;

    /// How many more orders it would take at the moment, at least 1; waits while it would take
    /// none. The worker reads no further than that, so what waits here stays in the queue, for
    /// other workers. Safe to cancel.
    fn room(&self) -> impl Future<Output = usize> + Send {
        std::future::ready(usize::MAX)
    }

    /// How long orders in hand may still take when the worker ends, where that is less than its own
    /// limit. What is not finished then is handed back; another worker does it, with the same id.
    fn time_at_the_end(&self) -> Option<Duration> {
        None
    }
}
