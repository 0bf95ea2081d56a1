//! The duty that a writer takes on by fencing.

use crate::cache::Cache;
use crate::entry::{Entry, StockChange};

/// Products fenced for a commit that is about to happen; say how it ended.
///
/// Until then this replica goes on serving the value before the change, which is still true. If
/// this is dropped without a word (the task was cancelled, or nobody knows whether the commit
/// happened), the old value is served no longer: the next reader asks the database.
#[must_use = "dropped, it takes the products out of this replica's memory; say how the commit ended"]
pub struct Raised<E: Entry> {
    cache: Cache<E>,
    fences: Vec<(i64, i64)>,
    /// The database that they are of, see [`Cache::of_database`].
    database: u64,
}

impl<E: Entry> Raised<E> {
    pub(crate) fn new(cache: Cache<E>, fences: Vec<(i64, i64)>) -> Self {
        let database = cache.database();
        Self { cache, fences, database }
    }

    /// Whether the versions mean nothing any more, because the database has gone back since.
    fn is_of_another_database(&self) -> bool {
        self.cache.database() != self.database
    }

    /// It was committed, and nothing but stock has changed; see [`Cache::committed`]. A fenced
    /// product that is not among `changes` is treated as not changed.
    pub fn committed(mut self, changes: &[StockChange]) {
        self.fences.clear();
        if !self.is_of_another_database() {
            self.cache.committed(changes);
        }
    }

    /// It was committed, and something besides stock has changed; see [`Cache::changed`].
    pub fn changed(mut self) {
        let fences = std::mem::take(&mut self.fences);
        if !self.is_of_another_database() {
            self.cache.changed(&fences);
        }
    }

    /// It was certainly not committed. The products stay out of Redis until their next change, or
    /// until the fence expires.
    pub fn aborted(mut self) {
        self.fences.clear();
    }
}

impl<E: Entry> Drop for Raised<E> {
    fn drop(&mut self) {
        if self.is_of_another_database() {
            return;
        }
        for (id, version) in self.fences.drain(..) {
            self.cache.suspend(id, version);
        }
    }
}
