//! Pages of a list, by key.

use crate::error::StoreError;

/// The most rows of a list that one page reads to find those that match its filters.
///
/// A list is read along one index, and filters that are not in that index are applied to the result. If hardly any row
/// matches a filter, the page would read millions of rows without this limit. So a page may be shorter than requested,
/// or empty, although the list continues.
pub const LOOKED_AT_MAX: i64 = 5_000;

/// The approximate maximum size of a page's rows in bytes, unless the first row alone is larger. A page that would have
/// more ends early, and the list continues.
pub const PAGE_BYTES_MAX: i64 = 4 * 1024 * 1024;

/// Follows `coalesce(sum(<bytes of a row>) OVER (ORDER BY <order of the list>`: the columns `bytes_before`, the bytes
/// of all rows before this one, and `found`, the number of all rows. Select large columns in an outer query, after the
/// rows beyond the limit have been removed.
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
    /// The entries, in the list's order.
    pub items: Vec<T>,
    /// The row after which the list continues; `None` at its end.
    pub next: Option<K>,
}

impl<T, K> Page<T, K> {
    /// A page of at most `limit` of the `found` rows of a statement. One more row than `limit` was requested, and rows
    /// beyond the limit of bytes may be missing.
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

    /// A page of at most `limit` of `items`. One more than `limit` was requested to find out whether there are more.
    pub(crate) fn cut(mut items: Vec<T>, limit: i64, key: impl Fn(&T) -> K) -> Self {
        let limit = usize::try_from(limit).unwrap_or(0);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(key);
        Self { items, next }
    }
}
