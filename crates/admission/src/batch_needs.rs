//! What the requests of a batch read and lock.

use std::collections::BTreeSet;

use holdfast_store::{Batch, IdempotencyKey, StoreError, WantedRows};

use crate::pending::PendingRequest;

/// What the requests of a batch read and lock.
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

/// Reads what the customers of a batch have already bought of products with a limit, if there are any.
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
        // An order without a customer belongs to its holds' customer.
        let holds = request.needs().holds().filter_map(|id| batch.allocator().hold_row(id));
        customers.extend(holds.filter_map(|hold| hold.customer.clone()));
    }
    if customers.is_empty() {
        return Ok(());
    }
    batch.count_customer_totals(&limits, &customers).await
}
