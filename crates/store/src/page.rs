//! Pages of a list, by key.

use crate::error::StoreError;

/// How many rows of a list one page looks at, at most, for those that fit its filters.
///
/// A list is read along one index; filters that are not in that index are applied to what it finds. So
/// that a filter which fits hardly any row does not turn a page into a walk through
/// millions, a page may be shorter than was asked for, empty even, and the list go on.
pub const LOOKED_AT_MAX: i64 = 5_000;

/// About how many bytes of rows one page has, at most, unless its first row alone is larger. One that
/// would have more ends earlier, and the list goes on.
pub const PAGE_BYTES_MAX: i64 = 4 * 1024 * 1024;

/// Behind `coalesce(sum(<bytes of a row>) OVER (ORDER BY <order of the list>`: the columns `bytes_before`, the bytes of all
/// rows before this one, and `found`, the number of all rows. Columns that are large are to be selected further out,
/// where the rows that are too many have been left out.
macro_rules! bytes_before {
    ($($to:tt)+) => { $crate::sql::part!([r#"
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS bytes_before,
        count(*) OVER () AS found
    "#] $($to)+) };
}
pub(crate) use bytes_before;

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, K> {
    /// What fits, in the list's order.
    pub items: Vec<T>,
    /// Behind which row the list goes on; `None` at its end.
    pub next: Option<K>,
}

impl<T, K> Page<T, K> {
    /// A page of at most `limit` of the `found` rows of a statement, of which one more was asked for, and of which
    /// those may be missing that were too many bytes.
    pub(crate) fn read<R>(
        rows: Vec<R>,
        found: i64,
        limit: i64,
        read: impl Fn(R) -> Result<T, StoreError>,
        key: impl Fn(&T) -> K,
    ) -> Result<Self, StoreError> {
        let limit = usize::try_from(limit).unwrap_or(0);
        let items = rows.into_iter().take(limit).map(read).collect::<Result<Vec<_>, _>>()?;
        let more = usize::try_from(found).is_ok_and(|found| found > items.len());
        let next = items.last().filter(|_| more).map(key);
        Ok(Self { items, next })
    }

    /// A page of at most `limit` of `items`, of which one more was asked for to see whether there
    /// is any.
    pub(crate) fn cut(mut items: Vec<T>, limit: i64, key: impl Fn(&T) -> K) -> Self {
        let limit = usize::try_from(limit).unwrap_or(0);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(key);
        Self { items, next }
    }
}
