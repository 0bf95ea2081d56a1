//! Deciding on the requests of a batch: pure, between the lock and the write.

use holdfast_domain::{HeldUnits, HoldId, HoldStatus, ProductId, Shortfall, StockAllocator};
use holdfast_store::{EndedHold, Records};

use crate::{
    case::{GrantedKeys, KeyResults},
    pending::PendingRequest,
};

/// Decides on requests in the order of their arrival. Those whose keys were used before the batch are no longer among
/// them.
pub(crate) fn decide(allocator: &mut StockAllocator, batch: &mut [PendingRequest]) {
    let mut keys = GrantedKeys::default();
    for request in batch {
        request.decide(allocator, &mut keys);
    }
}

/// The products of which more might be had if their expired holds were returned.
pub(crate) fn short_with_holds(
    locked: &StockAllocator,
    batch: &[PendingRequest],
) -> Vec<ProductId> {
    let mut short: Vec<_> = batch
        .iter()
        .filter_map(|request| match request.shortfall() {
            Some(Shortfall::NotEnough { product_id, .. }) => Some(product_id),
            _ => None,
        })
        .filter(|product_id| locked.has_holds_of(*product_id))
        .collect();
    short.sort_unstable();
    short.dedup();
    short
}

/// Returns the units of expired holds, and says which of them were returned.
pub(crate) fn expire(
    allocator: &mut StockAllocator,
    expired: Vec<(HoldId, HeldUnits)>,
) -> Vec<EndedHold> {
    expired
        .into_iter()
        .filter_map(|(id, hold)| {
            allocator.add_hold(id, hold);
            allocator.expire(id).then_some(EndedHold { id, status: HoldStatus::Expired })
        })
        .collect()
}

/// What is to be written for the requests that are granted.
pub(crate) fn records(batch: &mut [PendingRequest], ended: Vec<EndedHold>) -> Records<'_> {
    let mut records = Records { ended, ..Records::default() };
    for request in batch {
        request.record(&mut records);
    }
    records
}

/// The results of the keys of a batch that is written, if requests of the batch repeat others of it.
pub(crate) fn key_results(batch: &[PendingRequest]) -> KeyResults {
    if batch.iter().any(PendingRequest::is_repeated_in_batch) {
        batch.iter().filter_map(PendingRequest::key_result).collect()
    } else {
        KeyResults::new()
    }
}
