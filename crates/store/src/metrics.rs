//! What is to be seen of the database's connections: how many there are, and how long one waits for
//! one of them. Read from memory; a scrape costs the database nothing.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use crate::Store;

/// The pools, as in the label.
const POOLS: [&str; 2] = ["main", "admission"];

/// Who waits for a connection: changes wait for one of the main connections, within a bound of their own.
const WAITING: [&str; 3] = ["main", "admission", "changes"];

/// From 10 µs to 5 s, in steps that are told from each other at a glance.
const BUCKETS: [f64; 12] =
    [0.000_01, 0.000_05, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

/// How long callers have waited for a connection, by pool.
#[derive(Clone, Debug)]
pub(crate) struct Waits([Histogram; 3]);

impl Waits {
    /// Counts a wait for the pool of everything but admission, whether it ended well or not.
    pub fn main(&self, waited: Duration) {
        self.0[0].observe(waited.as_secs_f64());
    }

    /// Counts a wait for one of admission's connections.
    pub fn admission(&self, waited: Duration) {
        self.0[1].observe(waited.as_secs_f64());
    }

    /// Counts the wait of a change.
    pub fn changes(&self, waited: Duration) {
        self.0[2].observe(waited.as_secs_f64());
    }
}

/// The metrics of the connections of a [`Store`].
pub struct StoreMetrics {
    store: Store,
    connections: IntGaugeVec,
    max: IntGaugeVec,
}

impl StoreMetrics {
    /// Makes and registers the metrics. From now on this store, and each clone of it, counts how
    /// long its connections are waited for. Only the first registration of a store counts waits.
    ///
    /// # Errors
    /// A name is registered already.
    pub fn register(registry: &Registry, store: &Store) -> prometheus::Result<()> {
        let waits = HistogramVec::new(
            HistogramOpts::new(
                "holdfast_db_connection_wait_seconds",
                "Time until a caller had a database connection of its pool, or gave up.",
            )
            // A free connection is had in a few microseconds.
            .buckets(BUCKETS.to_vec()),
            &["pool"],
        )?;
        registry.register(Box::new(waits.clone()))?;
        // Should it be set already, that of the first registration counts.
        let _ = store.waits.set(Waits(WAITING.map(|pool| waits.with_label_values(&[pool]))));
        let connections = IntGaugeVec::new(
            Opts::new("holdfast_db_connections", "Database connections that are open, by state."),
            &["pool", "state"],
        )?;
        let max = IntGaugeVec::new(
            Opts::new(
                "holdfast_db_connections_max",
                "The most database connections that a pool may have.",
            ),
            &["pool"],
        )?;
        registry.register(Box::new(Self { store: store.clone(), connections, max }))
    }

    /// Reads the pools.
    fn read(&self) {
        for (pool, set) in POOLS.into_iter().zip([&self.store.main, &self.store.admission]) {
            self.connections.with_label_values(&[pool, "in_use"]).set(whole(set.in_use()));
            self.connections.with_label_values(&[pool, "idle"]).set(whole(set.idle()));
            self.max.with_label_values(&[pool]).set(whole(set.size()));
        }
    }
}

impl Collector for StoreMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.connections.desc().into_iter().chain(self.max.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.read();
        self.connections.collect().into_iter().chain(self.max.collect()).collect()
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
