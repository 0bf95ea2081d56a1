//! What a request reads and locks.

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

/// A row that a request needs and that another transaction may have locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum NeededRow {
    /// The row of an idempotency key, which another transaction has written and not committed yet.
    Key(u128),
    /// The row of the order that is cancelled.
    Order(OrderId),
    /// The row of a hold that ends.
    Hold(HoldId),
    Product(ProductId),
}

impl<'a> Needs<'a> {
    /// The products, in any order, possibly with repetitions.
    pub fn products(self) -> impl Iterator<Item = ProductId> + use<'a> {
        self.lines.iter().map(|line| line.product_id).chain(self.product)
    }

    fn required_holds(self) -> impl Iterator<Item = HoldId> + use<'a> {
        self.lines.iter().filter_map(|line| line.hold).chain(self.holds.iter().copied())
    }

    /// The holds, including optional ones.
    pub fn holds(self) -> impl Iterator<Item = HoldId> + use<'a> {
        self.required_holds().chain(self.optional_holds.iter().copied())
    }

    /// The rows without which the request must wait.
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
            // A batch that waits for all its rows lacks only products that do not exist. They are refused as unknown.
            NeededRow::Product(id) => mode != LockMode::Wait && !locked.has_product(*id),
            NeededRow::Order(id) => !locked.has_order(*id),
            NeededRow::Hold(id) => !locked.has_hold(*id),
            NeededRow::Key(_) => false,
        })
    }
}
