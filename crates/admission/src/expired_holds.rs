//! Expired holds of products that run short in a batch.
//!
//! A batch returns as many of them as its refused requests need, up to a limit. A request that needs more is retried in
//! the next batch, together with all later requests for the same products.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_domain::{HeldUnits, HoldId, HoldStatus, ProductId, Shortfall, StockAllocator};
use holdfast_store::{Batch, EXPIRED_HOLDS_MAX, EndedHold, StoreError};

use crate::pending::PendingRequest;

/// The products that might get more units if their expired holds were returned, and the units that the refused requests
/// need.
pub(crate) fn short_with_holds(
    locked: &StockAllocator,
    batch: &[PendingRequest],
) -> BTreeMap<ProductId, i64> {
    let mut short = BTreeMap::new();
    for request in batch {
        if !short_of(request).is_some_and(|id| locked.has_holds_of(id)) {
            continue;
        }
        // Its other products may run short, too, once this one does not.
        request.each_taken_from_stock(|id, quantity| {
            if locked.has_holds_of(id) {
                *short.entry(id).or_default() += i64::from(quantity.units());
            }
        });
    }
    short
}

/// The product of which a request was refused because of a lack of units.
fn short_of(request: &PendingRequest) -> Option<ProductId> {
    match request.shortfall() {
        Some(Shortfall::NotEnough { product_id, .. }) => Some(product_id),
        _ => None,
    }
}

/// The expired holds that a batch has found.
pub(crate) struct ExpiredHolds {
    holds: Vec<(HoldId, HeldUnits)>,
    /// The products that may have more expired holds, and are needed by the refused requests.
    more: BTreeSet<ProductId>,
}

impl ExpiredHolds {
    /// Finds the expired holds for the refused requests; see [`short_with_holds`].
    pub async fn find(
        batch: &mut Batch,
        short: &BTreeMap<ProductId, i64>,
    ) -> Result<Self, StoreError> {
        // Each hold has at least one unit.
        let wanted: Vec<_> = short.iter().map(|(id, units)| (*id, *units)).collect();
        let holds = batch.expired_holds(&wanted).await?;
        let mut more = BTreeSet::new();
        if holds.len() >= EXPIRED_HOLDS_MAX {
            let mut found = BTreeMap::<_, i64>::new();
            for (_, hold) in &holds {
                *found.entry(hold.product_id).or_default() += 1;
            }
            let has_all = |id, units| found.get(id).is_some_and(|found| found >= units);
            more.extend(short.iter().filter(|(id, units)| !has_all(id, units)).map(|(id, _)| *id));
        }
        Ok(Self { holds, more })
    }

    pub fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }

    /// Returns their units. The result is the holds whose units were returned.
    pub fn expire(&self, allocator: &mut StockAllocator) -> Vec<EndedHold> {
        let returned = self.holds.iter().filter_map(|(id, hold)| {
            allocator.add_hold(*id, hold.clone());
            allocator.expire(*id).then_some(EndedHold { id: *id, status: HoldStatus::Expired })
        });
        returned.collect()
    }

    /// Removes the first request that was refused although the next batch may have units for it, and later requests for
    /// the same products.
    pub fn take_unserved(&self, requests: &mut Vec<PendingRequest>) -> Vec<PendingRequest> {
        let may_be_served =
            |request: &PendingRequest| short_of(request).is_some_and(|id| self.more.contains(&id));
        let Some(first) = requests.iter().position(may_be_served) else { return Vec::new() };
        let needs_more = |request: &mut PendingRequest| {
            let mut needs = false;
            request.each_taken_from_stock(|id, _| needs |= self.more.contains(&id));
            needs
        };
        requests.extract_if(first.., needs_more).collect()
    }
}
