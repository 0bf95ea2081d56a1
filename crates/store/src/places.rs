//! Where the rows of products lie.
//!
//! A product that is sold gets a new version of its row with each batch, and the old ones can be cleaned
//! away only when no transaction is left that might look at them. A backup, a report or a
//! forgotten session keeps them all, and then whoever finds the row by its id walks over every version since. So
//! a batch remembers where its commit has left the rows (PostgreSQL's `ctid`), and the next one looks there first. A place is only
//! a hint: whether the row there is the product's is looked at under its lock, and what is not
//! found is looked for by its id.

use std::collections::HashMap;

use holdfast_domain::ProductId;
use parking_lot::Mutex;

use crate::StoreError;

/// The most places that are remembered. Beyond it, all are forgotten: they come back with the next
/// batches.
const PLACES_MAX: usize = 65_536;

/// A page and the number of a row on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    page: u32,
    row: u16,
}

impl Place {
    /// Reads PostgreSQL's `(page,row)`.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let parts = || text.strip_prefix('(')?.strip_suffix(')')?.split_once(',');
        let place = || {
            let (page, row) = parts()?;
            Some(Self { page: page.parse().ok()?, row: row.parse().ok()? })
        };
        place().ok_or_else(|| StoreError::Corrupt {
            what: "place of a row",
            reason: format!("{text:?} is no ctid"),
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "({},{})", self.page, self.row)
    }
}

/// Where the rows of products have been seen last.
#[derive(Debug, Default)]
pub(crate) struct Places(Mutex<HashMap<ProductId, Place>>);

impl Places {
    /// The known places of these products, as the elements of an array.
    pub fn of<'a>(&self, ids: impl Iterator<Item = &'a ProductId>) -> String {
        use std::fmt::Write as _;

        let known = self.0.lock();
        let mut list = String::new();
        for place in ids.filter_map(|id| known.get(id)) {
            // Writing to a String cannot fail. The quotes are for the comma within.
            let _ = write!(list, "{}\"{place}\"", if list.is_empty() { "" } else { "," });
        }
        list
    }

    /// The page on which this product's row was seen last, as the ctids of its beginning and of its end.
    pub fn page_of(&self, id: ProductId) -> Option<(Place, Place)> {
        let page = self.0.lock().get(&id)?.page;
        Some((Place { page, row: 0 }, Place { page: page.checked_add(1)?, row: 0 }))
    }

    /// Remembers where a commit has left the rows.
    pub fn learn(&self, places: &[(ProductId, Place)]) {
        let mut known = self.0.lock();
        if known.len() + places.len() > PLACES_MAX {
            known.clear();
        }
        known.extend(places.iter().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_and_written_as_postgresql_does() {
        assert_eq!(Place::parse("(4711,12)").unwrap().to_string(), "(4711,12)");
        for text in ["", "(1)", "(1,2", "(-1,2)", "(1,70000)"] {
            assert!(Place::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let places = Places::default();
        let (lamp, vase) = (ProductId(1), ProductId(2));
        assert_eq!(places.of([lamp, vase].iter()), "");
        places.learn(&[(vase, Place { page: 0, row: 2 })]);
        assert_eq!(places.of([lamp, vase].iter()), "\"(0,2)\"");
        assert_eq!(places.page_of(lamp), None);
        let page = [Place { page: 0, row: 0 }, Place { page: 1, row: 0 }];
        assert_eq!(places.page_of(vase), Some(page.into()));
    }
}
