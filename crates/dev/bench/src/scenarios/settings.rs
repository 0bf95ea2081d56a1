//! The durations and repetitions of the full and the quick run.

use std::time::Duration;

/// The durations and repetitions of measurements.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether it is the quick run: fewer and shorter measurements, no documents.
    pub quick: bool,
    /// The number of rounds. The figure of a goal is the median over the rounds.
    pub rounds: u32,
    /// The warm-up before each measurement.
    pub warm_up: Duration,
    /// The duration of each measurement.
    pub measured: Duration,
    /// The numbers of connections in the charts, in the first round.
    pub sweep: Vec<usize>,
    /// The numbers of pgbench's clients.
    pub pgbench_clients: Vec<u32>,
    /// The duration of each pgbench measurement, in seconds.
    pub pgbench_s: u32,
    /// Twice the time for which rows are locked without a pause.
    pub row_locked: Duration,
    /// The number of measurements of each state of the locks.
    pub row_lock_turns: u32,
    /// How long orders are placed for a worker to drain.
    pub drain_filling: Duration,
    /// How long three times the peak is offered.
    pub overload: Duration,
}

/// The number of connections at which the goals are measured.
pub const CONNECTIONS: usize = 256;

/// The number of products, if there are many.
pub const PRODUCTS: u32 = 1_000;

impl Settings {
    /// The run for the documents.
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
            row_lock_turns: 6,
            drain_filling: Duration::from_secs(6),
            overload: Duration::from_mins(1),
        }
    }

    /// The run during development, which takes less than three minutes.
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
            row_lock_turns: 6,
            drain_filling: Duration::from_secs(2),
            overload: Duration::from_secs(10),
        }
    }

    /// The numbers of connections: the sweep in the first round, and otherwise those that the goals need.
    pub fn connections(&self, round: u32, needed: &[usize]) -> Vec<usize> {
        if round == 1 && !self.quick { self.sweep.clone() } else { needed.to_vec() }
    }
}
