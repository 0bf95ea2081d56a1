//! What requests need to read and to lock.

use std::collections::BTreeSet;

use holdfast_domain::{HoldId, OrderId, ProductId, RequestedLine};
use holdfast_store::{Batch, IdempotencyKey, LockMode, StoreError, WantedRows};

use crate::pending::PendingRequest;

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

/// What the requests of a batch need to read and to lock.
pub(crate) fn wanted(requests: &[PendingRequest]) -> WantedRows<'_> {
    let mut wanted = WantedRows::default();
    for request in requests {
        let needs = request.needs();
        wanted.products.extend(needs.products());
        wanted.holds.extend(needs.holds());
        wanted.orders.extend(needs.order);
        wanted.keys.extend(needs.key);
    }
    wanted.keys.sort_unstable_by_key(|key| key.id());
    wanted.keys.dedup_by_key(|key| IdempotencyKey::id(key));
    wanted
}

/// Reads what the customers of a batch already have of the products with a limit, if there are any.
pub(crate) async fn count_customer_totals(
    batch: &mut Batch,
    requests: &[PendingRequest],
) -> Result<(), StoreError> {
    let limits: Vec<_> = batch.allocator().limits().collect();
    if limits.is_empty() {
        return Ok(());
    }
    let is_limited = |product_id| limits.iter().any(|(id, _)| *id == product_id);
    let mut customers = BTreeSet::new();
    for request in requests.iter().filter(|request| request.needs().products().any(is_limited)) {
        customers.extend(request.customer_ref().cloned());
        // An order that names no customer is that of its holds' customer.
        let holds = request.needs().holds().filter_map(|id| batch.allocator().hold_row(id));
        customers.extend(holds.filter_map(|hold| hold.customer.clone()));
    }
    if customers.is_empty() {
        return Ok(());
    }
    batch.count_customer_totals(&limits, &customers).await
}
