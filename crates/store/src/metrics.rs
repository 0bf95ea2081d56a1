//! The metrics of the database connections. They are read from memory: a scrape does not query the database.

use holdfast_telemetry::{Registry, metrics};

use crate::{store::Store, waits::Waits};

/// The pools, as in the label.
const POOLS: [&str; 2] = ["main", "admission"];

/// From 10 µs, in which a free connection is acquired, to 5 s.
const WAITS: [f64; 12] =
    [0.000_01, 0.000_05, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

holdfast_telemetry::metrics! {
    /// The metrics of the connections of a [`Store`].
    pub struct StoreMetrics {
        /// Time until a caller acquired a database connection or gave up, by pool. Changes of products use a limited
        /// part of the main pool.
        "holdfast_db_connection_wait_seconds" by pool {
            main_wait: Histogram = "main",
            admission_wait: Histogram = "admission",
            changes_wait: Histogram = "changes",
        } [WAITS],
        /// Open database connections, by pool and state.
        connections: IntGaugeVec = "holdfast_db_connections" { pool: POOLS, state: ["in_use", "idle"] },
        /// The most database connections that a pool may open.
        max: IntGaugeVec = "holdfast_db_connections_max" { pool: POOLS },
    }
}

impl StoreMetrics {
    /// Creates and registers the metrics. From then on, this store and its clones measure how long callers wait for
    /// connections. Only the first registration of a store measures waits.
    ///
    /// # Errors
    /// A name is registered already.
    pub fn register(registry: &Registry, store: &Store) -> Result<(), metrics::Error> {
        let metrics = Self::new(registry)?;
        // Fails if the store is registered already.
        let _ = store.waits.set(Waits {
            main: metrics.main_wait.clone(),
            admission: metrics.admission_wait.clone(),
            changes: metrics.changes_wait.clone(),
        });
        let store = store.clone();
        registry.before_each_page(move || metrics.read(&store));
        Ok(())
    }

    /// Reads the pools.
    fn read(&self, store: &Store) {
        for (pool, set) in POOLS.into_iter().zip([&store.main, &store.admission]) {
            self.connections.with_label_values(&[pool, "in_use"]).set(whole(set.in_use()));
            self.connections.with_label_values(&[pool, "idle"]).set(whole(set.idle()));
            self.max.with_label_values(&[pool]).set(whole(set.size()));
        }
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
