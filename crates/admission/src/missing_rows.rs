//! Rows that a batch could not lock: rows that do not exist, and rows that other transactions have locked.

use std::collections::BTreeSet;

use holdfast_domain::{ProductId, Shortfall};
use holdfast_store::{MissedRows, SeenRows, StoreError};
use holdfast_telemetry::Chain;

use crate::{
    ProductEntry,
    batch::{Runner, refuse_all},
    decision::Refusal,
    needs::NeededRow,
    pending::Missing,
};

impl<P: ProductEntry> Runner<P> {
    /// Refuses the requests whose row does not exist. Returns the others with the versions of their rows.
    pub async fn existing(&self, mut missing: Vec<Missing>) -> (Vec<Missing>, SeenRows) {
        let mut missed = MissedRows::default();
        for Missing { row, .. } in &missing {
            match row {
                NeededRow::Product(id) => _ = missed.products.insert(*id),
                NeededRow::Order(id) => _ = missed.orders.insert(*id),
                NeededRow::Hold(id) => _ = missed.holds.insert(*id),
                // Another transaction is about to write it.
                NeededRow::Key(_) => {}
            }
        }
        if missed == MissedRows::default() {
            return (missing, SeenRows::default());
        }
        let seen = match self.store.seen(&missed).await {
            Ok(seen) => seen,
            // A whole table is locked.
            Err(StoreError::LockTimeout(_)) => return (missing, SeenRows::default()),
            Err(error) => {
                refuse_all(missing.into_iter().map(|it| it.request).collect(), &error);
                return (Vec::new(), SeenRows::default());
            }
        };
        let unknown = |row: &NeededRow| match row {
            NeededRow::Product(id) if !seen.products.contains_key(id) => {
                Some(Shortfall::UnknownProduct(*id))
            }
            NeededRow::Order(id) if !seen.orders.contains(id) => Some(Shortfall::UnknownOrder),
            NeededRow::Hold(id) if !seen.holds.contains(id) => Some(Shortfall::UnknownHold(*id)),
            _ => None,
        };
        for Missing { request, row, .. } in missing.extract_if(.., |it| unknown(&it.row).is_some())
        {
            if let Some(shortfall) = unknown(&row) {
                request.refuse(Refusal::Short(shortfall));
            }
        }
        (missing, seen)
    }

    /// The committed versions of products; empty if they cannot be read now.
    pub async fn versions(&self, products: BTreeSet<ProductId>) -> SeenRows {
        if products.is_empty() {
            return SeenRows::default();
        }
        let missed = MissedRows { products, ..MissedRows::default() };
        self.store.seen(&missed).await.unwrap_or_else(|error| {
            tracing::debug!(error = %Chain(&error), "the versions of locked rows could not be read");
            SeenRows::default()
        })
    }
}
