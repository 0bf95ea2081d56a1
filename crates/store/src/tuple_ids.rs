//! The tuple id cache: where the rows of products are stored.
//!
//! Each batch writes a new version of the rows of the products that it sells. PostgreSQL can remove the old versions
//! only when no open transaction can see them. A backup, a report or a forgotten session keeps all of them, and a
//! search by the product's id then reads every version since its start. So a batch remembers the tuple ids (`ctid`) of
//! the rows that its commit has written, and the next batch looks there first. A tuple id is only a hint: the batch
//! checks under the lock whether the row belongs to the product, and otherwise searches by id.

use std::collections::HashMap;

use holdfast_domain::ProductId;
use parking_lot::Mutex;

use crate::error::StoreError;

/// The most tuple ids that are remembered. If there are more, all are forgotten, and the next batches add them again.
const TUPLE_IDS_MAX: usize = 65_536;

/// A page and the number of a row on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TupleId {
    page: u32,
    row: u16,
}

impl TupleId {
    /// Reads PostgreSQL's `(page,row)`.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let parts = || text.strip_prefix('(')?.strip_suffix(')')?.split_once(',');
        let tuple_id = || {
            let (page, row) = parts()?;
            Some(Self { page: page.parse().ok()?, row: row.parse().ok()? })
        };
        tuple_id().ok_or_else(|| StoreError::Corrupt {
            what: "tuple id",
            reason: format!("{text:?} is not a ctid"),
        })
    }
}

impl std::fmt::Display for TupleId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "({},{})", self.page, self.row)
    }
}

/// The last known tuple ids of the rows of products.
#[derive(Debug, Default)]
pub(crate) struct TupleIdCache(Mutex<HashMap<ProductId, TupleId>>);

impl TupleIdCache {
    /// The known tuple ids of these products, as the elements of an array.
    pub fn of<'a>(&self, ids: impl Iterator<Item = &'a ProductId>) -> String {
        use std::fmt::Write as _;

        let known = self.0.lock();
        let mut list = String::new();
        for tuple_id in ids.filter_map(|id| known.get(id)) {
            // Writing to a String cannot fail. The quotes are needed because of the comma.
            let _ = write!(list, "{}\"{tuple_id}\"", if list.is_empty() { "" } else { "," });
        }
        list
    }

    /// The page on which this product's row was last seen, as the tuple ids of its beginning and its end.
    pub fn page_of(&self, id: ProductId) -> Option<(TupleId, TupleId)> {
        let page = self.0.lock().get(&id)?.page;
        Some((TupleId { page, row: 0 }, TupleId { page: page.checked_add(1)?, row: 0 }))
    }

    /// Remembers the rows that a commit has written.
    pub fn learn(&self, written: &[(ProductId, TupleId)]) {
        let mut known = self.0.lock();
        if known.len() + written.len() > TUPLE_IDS_MAX {
            known.clear();
        }
        known.extend(written.iter().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuple_id_is_read_and_written_as_postgresql_does() {
        assert_eq!(TupleId::parse("(4711,12)").unwrap().to_string(), "(4711,12)");
        for text in ["", "(1)", "(1,2", "(-1,2)", "(1,70000)"] {
            assert!(TupleId::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn unknown_ids_are_left_out() {
        let cache = TupleIdCache::default();
        let (lamp, vase) = (ProductId(1), ProductId(2));
        assert_eq!(cache.of([lamp, vase].iter()), "");
        cache.learn(&[(vase, TupleId { page: 0, row: 2 })]);
        assert_eq!(cache.of([lamp, vase].iter()), "\"(0,2)\"");
        assert_eq!(cache.page_of(lamp), None);
        let page = [TupleId { page: 0, row: 0 }, TupleId { page: 1, row: 0 }];
        assert_eq!(cache.page_of(vase), Some(page.into()));
    }
}
