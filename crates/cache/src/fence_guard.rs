//! The fence guard: a writer's obligation to say how its commit ended.

use std::sync::Arc;

use crate::entry::{Entry, StockChange};
use crate::tiers::Tiers;

/// Products that are fenced for a commit that is about to happen. The writer says how the commit ended.
///
/// Until then, this replica continues to serve the value from before the change, which is still true. If the guard is
/// dropped without an answer (the task was cancelled, or it is unknown whether the commit happened), that value is no
/// longer served: the next reader asks the database.
#[must_use = "dropping it takes the products out of this replica's memory; say how the commit ended"]
pub struct FenceGuard<E: Entry> {
    tiers: Arc<Tiers<E>>,
    fences: Vec<(i64, i64)>,
    /// The database that the fences are for, see [`Cache::of_database`](crate::Cache::of_database).
    database: u64,
}

impl<E: Entry> FenceGuard<E> {
    pub(crate) fn new(tiers: Arc<Tiers<E>>, fences: Vec<(i64, i64)>) -> Self {
        let database = tiers.database();
        Self { tiers, fences, database }
    }

    /// Whether the products have moved to another database, in which these versions mean nothing.
    fn is_void(&self) -> bool {
        self.tiers.database() != self.database
    }

    /// The commit succeeded, and nothing but stock has changed; see [`Cache::committed`](crate::Cache::committed). A
    /// fenced product that is not among `changes` is treated as unchanged.
    pub fn committed(mut self, changes: &[StockChange]) {
        self.fences.clear();
        if !self.is_void() {
            self.tiers.committed(changes);
        }
    }

    /// The commit succeeded, and something besides stock has changed; see [`Cache::changed`](crate::Cache::changed).
    pub fn changed(mut self) {
        let fences = std::mem::take(&mut self.fences);
        if !self.is_void() {
            self.tiers.changed(&fences);
        }
    }

    /// The commit certainly failed. The products stay out of Redis until their next change or until the fence expires.
    pub fn aborted(mut self) {
        self.fences.clear();
    }
}

impl<E: Entry> Drop for FenceGuard<E> {
    fn drop(&mut self) {
        if self.is_void() {
            return;
        }
        for (id, version) in self.fences.drain(..) {
            self.tiers.l1.suspend(id, version);
        }
    }
}
