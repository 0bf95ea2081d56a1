//! Requests that return units to stock.

use holdfast_domain::{
    HoldId, HoldStatus, Lines, OperatorName, OperatorNote, OrderId, OrderStatus, ProductId,
    Shortfall, StockAllocator,
};
use holdfast_store::{Attribution, CancelledOrder, EndedHold, Records};

use super::StockRequest;
use crate::{metrics::AdmissionMetrics, needs::Needs};

/// A request to cancel an order.
#[derive(Clone, Debug)]
pub struct CancelOrder {
    /// The order.
    pub order_id: OrderId,
    /// The status that it must have.
    pub from: OrderStatus,
    /// Whether an operator has confirmed that it is not fulfilled, although an attempt may have succeeded.
    pub settled: bool,
    /// Its lines, which never change.
    pub lines: Lines,
    /// The operator, if that is recorded.
    pub ordered_by: Option<OrderedBy>,
}

/// The operator who changes an order, and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderedBy {
    /// The operator.
    pub by: OperatorName,
    /// The reason, if one was given.
    pub note: Option<OperatorNote>,
}

impl OrderedBy {
    /// For the store.
    pub fn as_ordered(&self) -> Attribution<'_> {
        Attribution { by: self.by.as_str(), note: self.note.as_ref().map(OperatorNote::as_str) }
    }
}

/// A request to end a hold before it expires.
#[derive(Clone, Copy, Debug)]
pub struct ReleaseHold {
    /// The hold.
    pub hold_id: HoldId,
    /// Its product, which never changes.
    pub product_id: ProductId,
}

/// A request of admission itself to return the units of these expired holds of a product. Holds that are not expired
/// are skipped.
#[derive(Clone, Debug)]
pub(crate) struct ExpireHolds {
    pub product_id: ProductId,
    pub holds: Vec<HoldId>,
}

impl StockRequest for CancelOrder {
    type Granted = ();
    type Answer = ();

    fn needs(&self) -> Needs<'_> {
        Needs { lines: &self.lines, order: Some(self.order_id), ..Needs::default() }
    }

    fn allocate(&self, allocator: &mut StockAllocator) -> Result<(), Shortfall> {
        allocator.cancel(self.order_id, self.from, self.settled, &self.lines)
    }

    fn record<'a>(&'a self, (): &'a mut (), records: &mut Records<'a>) {
        let ordered = self.ordered_by.as_ref().map(OrderedBy::as_ordered);
        records.cancelled.push(CancelledOrder { id: self.order_id, ordered });
    }

    fn answer(self, (): ()) -> Option<()> {
        Some(())
    }

    fn count(metrics: &AdmissionMetrics) {
        metrics.cancelled.inc();
    }
}

impl StockRequest for ReleaseHold {
    type Granted = ();
    type Answer = ();

    fn needs(&self) -> Needs<'_> {
        let holds = std::slice::from_ref(&self.hold_id);
        Needs { product: Some(self.product_id), holds, ..Needs::default() }
    }

    fn allocate(&self, allocator: &mut StockAllocator) -> Result<(), Shortfall> {
        allocator.release(self.hold_id)
    }

    fn record<'a>(&'a self, (): &'a mut (), records: &mut Records<'a>) {
        records.ended.push(EndedHold { id: self.hold_id, status: HoldStatus::Released });
    }

    fn answer(self, (): ()) -> Option<()> {
        Some(())
    }

    fn count(metrics: &AdmissionMetrics) {
        metrics.holds_released.inc();
    }
}

impl StockRequest for ExpireHolds {
    /// The holds whose units are returned.
    type Granted = Vec<HoldId>;
    /// The number of units.
    type Answer = usize;

    fn needs(&self) -> Needs<'_> {
        Needs { product: Some(self.product_id), optional_holds: &self.holds, ..Needs::default() }
    }

    fn allocate(&self, allocator: &mut StockAllocator) -> Result<Vec<HoldId>, Shortfall> {
        Ok(self.holds.iter().copied().filter(|id| allocator.expire(*id)).collect())
    }

    fn record<'a>(&'a self, granted: &'a mut Vec<HoldId>, records: &mut Records<'a>) {
        let expired = |id: &HoldId| EndedHold { id: *id, status: HoldStatus::Expired };
        records.ended.extend(granted.iter().map(expired));
    }

    fn answer(self, granted: Vec<HoldId>) -> Option<usize> {
        Some(granted.len())
    }
}
