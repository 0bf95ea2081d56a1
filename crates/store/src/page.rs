//! Pages of a list, by key.

/// How many rows of a list one page looks at, at most, for those that fit its filters.
///
/// A list is read along one index; filters that are not in that index are applied to what it finds. So
/// that a filter which fits hardly any row does not turn a page into a walk through
/// millions, a page may be shorter than was asked for, empty even, and the list go on.
pub const LOOKED_AT_MAX: i64 = 5_000;

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, K> {
    /// What fits, in the list's order.
    pub items: Vec<T>,
    /// Behind which row the list goes on; `None` at its end.
    pub next: Option<K>,
}

impl<T, K> Page<T, K> {
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
