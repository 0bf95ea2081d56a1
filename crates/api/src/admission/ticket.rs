//! An order that waits in a lane, and the verdict on it.

use std::time::Instant;

use holdfast_domain::{Demand, Money, OrderId, Stock};
use tokio::sync::oneshot;

/// An order that was accepted: it is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its id.
    pub id: OrderId,
    /// What one unit costs.
    pub unit_price: Money,
    /// When it was accepted.
    pub created_at: jiff::Timestamp,
}

/// Why an order was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such product, or it is no longer sold.
    #[error("there is no such product")]
    UnknownProduct,
    /// Fewer units are left than the order asks for.
    #[error("not enough stock")]
    NotEnough {
        /// What is left.
        left: Stock,
    },
    /// Too many orders wait already, or this one has waited for too long.
    #[error("the lane is full")]
    Full,
    /// The product's row was locked by others for too long.
    #[error("the product stayed locked for too long")]
    LockTimeout,
    /// The database cannot take orders at the moment.
    #[error("the database is not available")]
    Unavailable,
    /// The commit was not answered and its fate could not be found out in time. The order may
    /// exist.
    #[error("it is not known whether the order was accepted")]
    OutcomeUnknown,
    /// The database refuses this very order: a defect.
    #[error("the database refused the order")]
    Internal,
    /// This process is about to end.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl Refusal {
    /// The label of the metric, from a bounded set.
    pub fn reason(self) -> &'static str {
        match self {
            Self::UnknownProduct => "unknown_product",
            Self::NotEnough { .. } => "not_enough",
            Self::Full => "full",
            Self::LockTimeout => "lock_timeout",
            Self::Unavailable => "unavailable",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Internal => "internal",
            Self::ShuttingDown => "shutting_down",
        }
    }
}

pub(super) type Verdict = Result<Accepted, Refusal>;

/// An order on its way through a lane.
#[derive(Debug)]
pub(super) struct Ticket {
    pub demand: Demand,
    pub trace_context: Option<String>,
    pub arrived: Instant,
    /// How often the shared lane found its row locked.
    pub misses: u8,
    verdict: oneshot::Sender<Verdict>,
}

impl Ticket {
    pub fn new(
        demand: Demand,
        trace_context: Option<String>,
    ) -> (Self, oneshot::Receiver<Verdict>) {
        let (verdict, answer) = oneshot::channel();
        (Self { demand, trace_context, arrived: Instant::now(), misses: 0, verdict }, answer)
    }

    /// Whether nobody waits for the verdict any more.
    pub fn is_abandoned(&self) -> bool {
        self.verdict.is_closed()
    }

    pub fn answer(self, verdict: Verdict) {
        // A caller that has gone does not hear it.
        let _ = self.verdict.send(verdict);
    }
}
