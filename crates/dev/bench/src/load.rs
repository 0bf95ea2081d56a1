//! The load generator: many HTTP/1.1 connections on one or a few threads.
//!
//! It shares the machine with the system that it measures, so it needs few resources: requests are rendered in advance,
//! only the status, the length and the order id of an answer are parsed, and a request costs two system calls.
//!
//! There are two modes. **Closed loop**: each connection sends its next request after the answer. This finds the highest
//! throughput, and latencies are measured from sending. **Open loop**: requests are due at a fixed rate, independently of
//! answers, like those of customers. Latencies are measured from the time at which a request was due, so that a stall of
//! the server counts for all requests that were due during it (coordinated omission, as in Gil Tene's wrk2).
//!
//! | file | subject |
//! |---|---|
//! | `requests` | the requests, rendered in advance, and their mix |
//! | `answer` | parsing answers |
//! | `connection` | one connection and its request in flight |
//! | `schedule` | when the requests of an open loop are due |
//! | `worker` | one thread's event loop |
//! | `group` | a group's part on one thread |
//! | `outcome` | the results: counts, latencies, the log of accepted orders |

pub mod answer;
mod connection;
mod group;
mod outcome;
mod requests;
mod schedule;
mod worker;

use std::net::SocketAddr;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

pub use outcome::{Accepted, GroupReport, Latencies, LoadReport, Outcomes, TICK};
pub use requests::{Choice, Requests, http_request};

#[derive(Clone, Debug)]
pub struct LoadPlan {
    /// Groups of clients that run at the same time.
    pub groups: Vec<ClientGroup>,
    /// The warm-up; its orders are logged but not counted.
    pub warm_up: Duration,
    /// The measured time.
    pub measured: Duration,
    /// Threads of the generator.
    pub threads: usize,
    /// The time limit of an answer, after which its connection is closed.
    pub answer_limit: Duration,
}

/// Clients with the same behaviour.
#[derive(Clone, Debug)]
pub struct ClientGroup {
    /// The name in the report.
    pub name: &'static str,
    /// Replicas; connections are spread over them evenly.
    pub targets: Vec<SocketAddr>,
    pub connections: usize,
    pub requests: Arc<Requests>,
    /// The mode.
    pub pace: Pace,
}

/// The mode of a group.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// Each request is sent after the previous answer.
    Closed,
    /// At a fixed rate.
    Open {
        /// Requests per second, over all connections of the group.
        per_second: f64,
        /// A request that finds no free connection within this time is dropped and counted as unsent.
        patience: Duration,
    },
}

impl LoadPlan {
    /// A plan of one group in a closed loop, with one thread for every two processors.
    pub fn closed(group: ClientGroup, warm_up: Duration, measured: Duration) -> Self {
        Self {
            groups: vec![group],
            warm_up,
            measured,
            threads: default_threads(),
            answer_limit: Duration::from_secs(15),
        }
    }
}

/// One thread for every two processors, because the servers need the others.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, 8))
}

/// Runs a plan, and blocks until it ends. `on_measuring` is called on a thread of the generator at the end of the
/// warm-up, and again (with `false`) at the end of the measured time.
///
/// # Errors
/// A target does not accept connections at the start. If a target fails later, the counts show it.
pub fn run(plan: &LoadPlan, on_measuring: impl Fn(bool) + Sync) -> anyhow::Result<LoadReport> {
    if plan.groups.iter().any(|group| group.targets.is_empty() || group.connections == 0) {
        bail!("a group needs at least one target and one connection");
    }
    let most = plan.groups.iter().map(|group| group.connections).max().unwrap_or(1);
    let threads = plan.threads.clamp(1, most);
    // All threads connect first, and then start at the same time.
    let barrier = Barrier::new(threads);
    let start = std::sync::OnceLock::new();
    let results: Vec<anyhow::Result<LoadReport>> = std::thread::scope(|scope| {
        let run_thread = |index: usize| {
            let made = worker::LoadThread::connect(plan, index, threads);
            barrier.wait();
            let start = *start.get_or_init(Instant::now);
            let observer: &dyn Fn(bool) = if index == 0 { &on_measuring } else { &|_| {} };
            made?.run(start, observer)
        };
        let handles: Vec<_> =
            (1..threads).map(|index| scope.spawn(move || run_thread(index))).collect();
        let mut results = vec![run_thread(0)];
        for handle in handles {
            results.push(handle.join().unwrap_or_else(|_| bail!("a thread of the generator died")));
        }
        results
    });
    let mut reports = results.into_iter();
    let mut total = reports.next().context("no thread ran")??;
    for report in reports {
        total.merge(report?);
    }
    Ok(total)
}
