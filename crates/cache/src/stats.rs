//! Counters since the start, for whoever exports metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(crate) fn inc(&self) {
        self.add(1);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What the cache has done since it was made.
#[derive(Debug, Default)]
pub struct Stats {
    /// Reads answered from this process's memory.
    pub process_hits: Counter,
    /// Reads answered from Redis.
    pub redis_hits: Counter,
    /// Reads that ran the loader.
    pub misses: Counter,
    /// Reads that waited for another caller's load of the same product.
    pub shared_loads: Counter,
    /// Values not kept in the process because a newer version was known or nothing could vouch for
    /// them.
    pub process_refusals: Counter,
    /// Fills that Redis refused: the product had changed, or the lease was gone.
    pub fill_refusals: Counter,
    /// Fills that Redis took.
    pub fills: Counter,
    /// Products fenced by this replica.
    pub raised: Counter,
    /// Changes of other replicas that arrived here.
    pub peer_changes: Counter,
    /// Stock patches applied to a value in memory.
    pub patches: Counter,
    /// Calls to Redis that failed or took too long.
    pub redis_errors: Counter,
    /// Fences that could not be delivered and were put down to be delivered later.
    pub owed: Counter,
    /// Owed fences delivered after all.
    pub repaid: Counter,
    /// Times that the process's memory was discarded because the subscription could not vouch for
    /// it.
    pub resets: Counter,
    /// Fills and messages dropped because the queue to Redis was full.
    pub dropped: Counter,
}

/// The present state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauges {
    /// Whether the process's memory answers.
    pub armed: bool,
    /// Whether Redis is read.
    pub redis_up: bool,
    /// Products in the process's memory.
    pub process_entries: usize,
    /// Their size in bytes, bookkeeping included.
    pub process_bytes: u64,
    /// Invalidations not yet delivered to Redis.
    pub owed: usize,
}
