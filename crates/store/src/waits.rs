//! Measures how long callers wait for a connection.

use std::time::Duration;

use holdfast_telemetry::metrics::Histogram;

/// How long callers have waited for a connection, by pool.
#[derive(Clone, Debug)]
pub(crate) struct Waits {
    pub main: Histogram,
    pub admission: Histogram,
    pub changes: Histogram,
}

impl Waits {
    /// Counts a wait for the main pool, whether it succeeded or not.
    pub fn main(&self, waited: Duration) {
        self.main.observe(waited.as_secs_f64());
    }

    /// Counts a wait for one of admission's connections.
    pub fn admission(&self, waited: Duration) {
        self.admission.observe(waited.as_secs_f64());
    }

    /// Counts a wait of a change for its permit and its connection.
    pub fn changes(&self, waited: Duration) {
        self.changes.observe(waited.as_secs_f64());
    }
}
