//! What a batch needs to know and to have from the database, before it is ruled on.

use std::collections::BTreeSet;

use holdfast_store::{Batch, IdempotencyKey, LockMode, StoreError, Wanted};

use super::ticket::{Row, Ticket};

/// What the tickets need to see and to lock.
pub(super) fn wanted(tickets: &[Ticket]) -> Wanted<'_> {
    let mut wanted = Wanted::default();
    for Ticket { demand, details, .. } in tickets {
        wanted.products.extend(demand.products());
        wanted.holds.extend(demand.holds());
        wanted.orders.extend(demand.order());
        wanted.keys.extend(&details.key);
    }
    wanted.keys.sort_unstable_by_key(|key| key.id());
    wanted.keys.dedup_by_key(|key| IdempotencyKey::id(key));
    wanted
}

/// A row that the ticket needs and that the batch does not have.
pub(super) fn missed(ticket: &Ticket, batch: &Batch, mode: LockMode) -> Option<Row> {
    let shelf = batch.shelf();
    ticket.rows().find(|row| match row {
        // Only one that does not exist is not locked then; it is refused as unknown.
        Row::Product(id) => mode != LockMode::Wait && !shelf.has(*id),
        Row::Order(id) => !shelf.has_order(*id),
        Row::Hold(id) => !shelf.has_hold(*id),
        Row::Key(_) => false,
    })
}

/// Finds out what the customers of a batch have of the products with a limit, if there are any.
pub(super) async fn count_taken(batch: &mut Batch, tickets: &[Ticket]) -> Result<(), StoreError> {
    let limits: Vec<_> = batch.shelf().limits().collect();
    if limits.is_empty() {
        return Ok(());
    }
    let limited = |product_id| limits.iter().any(|(id, _)| *id == product_id);
    let mut customers = BTreeSet::new();
    for ticket in tickets.iter().filter(|ticket| ticket.demand.products().any(limited)) {
        customers.extend(ticket.details.customer_ref.clone());
        // An order that names nobody is that of its holds' customer.
        let holds = ticket.demand.holds().filter_map(|id| batch.shelf().hold(id));
        customers.extend(holds.filter_map(|hold| hold.customer.clone()));
    }
    if customers.is_empty() {
        return Ok(());
    }
    batch.count_taken(&limits, &customers).await
}
