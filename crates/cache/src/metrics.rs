//! The metrics of the cache.

holdfast_telemetry::metrics! {
    /// What the cache has done since it was made, and its state when the metrics were last shown.
    pub struct CacheMetrics {
        /// Product reads, by the tier that answered: the process's memory, Redis, neither (none: the database was asked), or
        /// another read's load of the same product (shared).
        "holdfast_cache_reads_total" by tier {
            pub process_hits: IntCounter = "process",
            pub redis_hits: IntCounter = "redis",
            pub misses: IntCounter = "none",
            pub shared_loads: IntCounter = "shared",
        },
        /// Values that were not kept because a newer version was known or the tier could not be trusted at that moment.
        "holdfast_cache_fence_rejections_total" by tier {
            pub process_refusals: IntCounter = "process",
            pub fill_refusals: IntCounter = "redis",
        },
        /// Values that were written to Redis.
        pub fills: IntCounter = "holdfast_cache_fills_total",
        /// Products that this replica fenced because it was about to change them.
        pub fenced: IntCounter = "holdfast_cache_invalidations_total",
        /// Messages about changes by other replicas that arrived.
        pub peer_changes: IntCounter = "holdfast_cache_peer_changes_total",
        /// Values in the process's memory whose stock was updated without loading the product again.
        pub patches: IntCounter = "holdfast_cache_patches_total",
        /// Products that PostgreSQL was asked about because a cached value may not be older than
        /// HOLDFAST_CACHE_MAX_AGE_MS: the version in memory was the latest (unchanged), it was not, or had been evicted
        /// (changed), or PostgreSQL did not answer in time (failed).
        "holdfast_cache_confirmations_total" by outcome {
            pub confirmed_unchanged: IntCounter = "unchanged",
            pub confirmed_changed: IntCounter = "changed",
            pub confirmations_failed: IntCounter = "failed",
        },
        /// Calls to Redis that failed or took too long.
        pub redis_errors: IntCounter = "holdfast_cache_redis_errors_total",
        /// Invalidations that could not be delivered to Redis at once and were kept to be delivered later.
        pub owed: IntCounter = "holdfast_cache_owed_total",
        /// Kept invalidations that were delivered to Redis later.
        pub repaid: IntCounter = "holdfast_cache_repaid_total",
        /// Times that the process's memory was emptied because its subscription to changes was interrupted.
        pub resets: IntCounter = "holdfast_cache_process_resets_total",
        /// Fills and messages that were dropped because too many waited for Redis.
        pub dropped: IntCounter = "holdfast_cache_dropped_total",
        /// 1 if the tier answers reads, 0 if not.
        "holdfast_cache_up" by tier {
            process_up: IntGauge = "process",
            redis_up: IntGauge = "redis",
        },
        /// Products in the process's memory.
        process_products: IntGauge = "holdfast_cache_process_products",
        /// Size of the products in the process's memory, including bookkeeping.
        process_bytes: IntGauge = "holdfast_cache_process_bytes",
        /// Invalidations that are kept until Redis can be reached.
        owed_now: IntGauge = "holdfast_cache_owed_invalidations",
    }
}

impl CacheMetrics {
    /// Sets the gauges.
    pub(crate) fn show(&self, gauges: Gauges) {
        self.process_up.set(i64::from(gauges.armed));
        self.redis_up.set(i64::from(gauges.redis_up));
        self.process_products.set(i64::try_from(gauges.process_entries).unwrap_or(i64::MAX));
        self.process_bytes.set(i64::try_from(gauges.process_bytes).unwrap_or(i64::MAX));
        self.owed_now.set(i64::try_from(gauges.owed).unwrap_or(i64::MAX));
    }
}

/// The current state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauges {
    /// Whether the process's memory answers.
    pub armed: bool,
    /// Whether Redis is read.
    pub redis_up: bool,
    /// Products in the process's memory.
    pub process_entries: usize,
    /// Their size in bytes, including bookkeeping.
    pub process_bytes: u64,
    /// Invalidations not yet delivered to Redis.
    pub owed: usize,
}
