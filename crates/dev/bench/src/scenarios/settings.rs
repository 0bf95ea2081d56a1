//! How long and how often: the full run and the quick one.

use std::time::Duration;

/// How long and how often things are measured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The short run: fewer points, shorter, no documents.
    pub quick: bool,
    /// Rounds; a goal's figure is the median over them.
    pub rounds: u32,
    /// Before each measurement.
    pub warm_up: Duration,
    /// Each measurement.
    pub measured: Duration,
    /// Connections that charts are drawn over, in the first round.
    pub sweep: Vec<usize>,
    /// pgbench's clients.
    pub pgbench_clients: Vec<u32>,
    /// Each measurement of pgbench, in seconds.
    pub pgbench_s: u32,
    /// Twice the time for which rows are held at a stretch.
    pub row_locked: Duration,
    /// How long orders are made for a worker to drain.
    pub drain_filling: Duration,
    /// How long three times the peak is offered.
    pub overload: Duration,
}

/// Connections at which the goals are measured.
pub const CONNECTIONS: usize = 256;

/// Products where there are many.
pub const PRODUCTS: u32 = 1_000;

impl Settings {
    /// The run that the documents are written from.
    pub fn full() -> Self {
        Self {
            quick: false,
            rounds: 3,
            warm_up: Duration::from_secs(2),
            measured: Duration::from_secs(8),
            sweep: vec![1, 32, 256, 1_024],
            pgbench_clients: vec![1, 4, 16, 64],
            pgbench_s: 8,
            row_locked: Duration::from_secs(4),
            drain_filling: Duration::from_secs(6),
            overload: Duration::from_mins(1),
        }
    }

    /// The run for the time between two changes, under three minutes.
    pub fn quick() -> Self {
        Self {
            quick: true,
            rounds: 1,
            warm_up: Duration::from_millis(700),
            measured: Duration::from_secs(2),
            sweep: vec![1, 32, 256, 1_024],
            pgbench_clients: vec![1, 4, 16, 64],
            pgbench_s: 2,
            row_locked: Duration::from_secs(3),
            drain_filling: Duration::from_secs(2),
            overload: Duration::from_secs(10),
        }
    }

    /// The sweep of connections in the first round, and what the goals need in the others.
    pub fn connections(&self, round: u32, needed: &[usize]) -> Vec<usize> {
        if round == 1 && !self.quick { self.sweep.clone() } else { needed.to_vec() }
    }
}
