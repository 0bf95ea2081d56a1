//! What a request needs to read and to lock.

use holdfast_domain::{HoldId, OrderId, ProductId, RequestedLine};
use holdfast_store::{Batch, IdempotencyKey, LockMode};

/// The rows that a request needs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needs<'a> {
    /// Lines with their products and holds.
    pub lines: &'a [RequestedLine],
    pub product: Option<ProductId>,
    pub holds: &'a [HoldId],
    /// Holds without which the request can be served.
    pub optional_holds: &'a [HoldId],
    pub order: Option<OrderId>,
    pub key: Option<&'a IdempotencyKey>,
}

/// A row that a request needs, and that other transactions may lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum NeededRow {
    /// Of an idempotency key: another transaction has written it and not committed yet.
    Key(u128),
    /// Of the order that is to be cancelled.
    Order(OrderId),
    /// Of a hold that is to end.
    Hold(HoldId),
    Product(ProductId),
}

impl<'a> Needs<'a> {
    /// The products, in no order, some perhaps twice.
    pub fn products(self) -> impl Iterator<Item = ProductId> + use<'a> {
        self.lines.iter().map(|line| line.product_id).chain(self.product)
    }

    fn required_holds(self) -> impl Iterator<Item = HoldId> + use<'a> {
        self.lines.iter().filter_map(|line| line.hold).chain(self.holds.iter().copied())
    }

    /// The holds, with those that are optional.
    pub fn holds(self) -> impl Iterator<Item = HoldId> + use<'a> {
        self.required_holds().chain(self.optional_holds.iter().copied())
    }

    /// The rows without which the request has to wait.
    pub fn rows(self) -> impl Iterator<Item = NeededRow> + use<'a> {
        let key = self.key.map(|key| NeededRow::Key(key.id()));
        let order = self.order.map(NeededRow::Order);
        let holds = self.required_holds().map(NeededRow::Hold);
        key.into_iter().chain(order).chain(holds).chain(self.products().map(NeededRow::Product))
    }

    /// A row that the batch does not have.
    pub fn missing_from(self, batch: &Batch, mode: LockMode) -> Option<NeededRow> {
        let locked = batch.allocator();
        self.rows().find(|row| match row {
            // Only one that does not exist is not locked then; it is refused as unknown.
            NeededRow::Product(id) => mode != LockMode::Wait && !locked.has_product(*id),
            NeededRow::Order(id) => !locked.has_order(*id),
            NeededRow::Hold(id) => !locked.has_hold(*id),
            NeededRow::Key(_) => false,
        })
    }
}
