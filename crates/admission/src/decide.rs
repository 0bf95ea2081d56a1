//! Decides on the requests of a batch, between the lock and the write. Pure.

use holdfast_domain::StockAllocator;
use holdfast_store::{EndedHold, Records};

use crate::{
    case::{GrantedKeys, KeyResults},
    pending::PendingRequest,
};

/// Decides on requests in the order of their arrival. Those whose keys were used before the batch have been removed.
pub(crate) fn decide(allocator: &mut StockAllocator, batch: &mut [PendingRequest]) {
    let mut keys = GrantedKeys::default();
    for request in batch {
        request.decide(allocator, &mut keys);
    }
}

/// The records of the granted requests.
pub(crate) fn records(batch: &mut [PendingRequest], ended: Vec<EndedHold>) -> Records<'_> {
    let mut records = Records { ended, ..Records::default() };
    for request in batch {
        request.record(&mut records);
    }
    records
}

/// The results of the keys of a written batch, if some requests of the batch repeat others.
pub(crate) fn key_results(batch: &[PendingRequest]) -> KeyResults {
    if batch.iter().any(PendingRequest::is_repeated_in_batch) {
        batch.iter().filter_map(PendingRequest::key_result).collect()
    } else {
        KeyResults::new()
    }
}
