//! The kinds of stock requests. Each defines what it needs, how it is allocated and recorded, and its answer.

mod hold_stock;
mod place_order;
mod returns;

use holdfast_domain::{
    CustomerRef, HoldId, OrderId, ProductId, Quantity, Shortfall, StockAllocator,
};
use holdfast_store::{IdempotencyKey, Records, ResultKind};

pub use hold_stock::HoldStock;
pub use place_order::PlaceOrder;
pub(crate) use returns::ExpireHolds;
pub use returns::{CancelOrder, OrderedBy, ReleaseHold};

use crate::{metrics::AdmissionMetrics, needs::Needs};

/// The result of an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyResult {
    Order(OrderId),
    Hold(HoldId),
}

impl KeyResult {
    pub fn new(kind: ResultKind, id: i64) -> Option<Self> {
        match kind {
            ResultKind::Order => Some(Self::Order(OrderId(id))),
            ResultKind::Hold => Some(Self::Hold(HoldId(id))),
            // A change of stock does not use admission.
            ResultKind::Adjustment => None,
        }
    }
}

/// A kind of stock request.
pub(crate) trait StockRequest: Sized + Send + 'static {
    /// What the allocator grants.
    type Granted: Send;
    /// The answer to the caller once the batch is committed.
    type Answer: Send;

    /// The kind of result of its key.
    const RESULT: Option<ResultKind> = None;

    /// The rows that it needs.
    fn needs(&self) -> Needs<'_>;

    fn key(&self) -> Option<&IdempotencyKey> {
        None
    }

    fn customer_ref(&self) -> Option<&CustomerRef> {
        None
    }

    fn trace_context(&self) -> Option<&str> {
        None
    }

    /// The units that it takes from stock.
    fn taken_from_stock(&self) -> impl Iterator<Item = (ProductId, Quantity)> {
        std::iter::empty()
    }

    /// Allocates it, as a whole or not at all.
    fn allocate(&self, allocator: &mut StockAllocator) -> Result<Self::Granted, Shortfall>;

    /// Adds its records.
    fn record<'a>(&'a self, granted: &'a mut Self::Granted, records: &mut Records<'a>);

    /// The answer, after the commit. `None` if the records were not written, which cannot happen.
    fn answer(self, granted: Self::Granted) -> Option<Self::Answer>;

    /// The result of its key.
    fn result(_granted: &Self::Granted) -> Option<KeyResult> {
        None
    }

    /// The answer to a repetition with this result; `None` if the result is of another kind of request.
    fn repeated(_result: KeyResult) -> Option<Self::Answer> {
        None
    }

    /// Whether the answer is a new order or hold.
    fn is_new(_answer: &Self::Answer) -> bool {
        false
    }

    /// Counts a granted request.
    fn count(_metrics: &AdmissionMetrics) {}
}
