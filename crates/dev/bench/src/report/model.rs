//! A run and its points. Each name ends in its unit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::machine::Machine;
use crate::audit::Findings;
use crate::load::{GroupReport, Latencies};

/// The names of the parts, by which points are selected.
pub mod part {
    /// The do-nothing server's POST.
    pub const NOTHING_POST: &str = "nothing_post";
    /// The do-nothing server's GET.
    pub const NOTHING_GET: &str = "nothing_get";
    /// pgbench, `SELECT … FOR UPDATE`.
    pub const PGBENCH_FOR_UPDATE: &str = "pgbench_for_update";
    /// pgbench, one statement.
    pub const PGBENCH_CTE: &str = "pgbench_cte";
    /// One hot product.
    pub const HOT: &str = "hot";
    /// Products with the same probability.
    pub const UNIFORM: &str = "uniform";
    /// Products ordered by Zipf's law.
    pub const ZIPF: &str = "zipf";
    /// 95 reads for every five orders.
    pub const MIX: &str = "mix";
    /// Reads of cached products.
    pub const READS: &str = "reads";
    /// One hot product while workers drain the queue.
    pub const HOT_DRAINING: &str = "hot_draining";
    /// A worker drains the queue alone.
    pub const DRAIN: &str = "drain";
    /// Other products while one row is locked.
    pub const ROW_LOCKED: &str = "row_locked";
    /// Other products while rows of every kind are locked.
    pub const ROWS_LOCKED: &str = "rows_locked";
    /// One hot product on two replicas while rows of every kind are locked.
    pub const ROWS_LOCKED_HOT: &str = "rows_locked_hot";
    /// One hot product at 70 % of its peak, open loop.
    pub const STEADY: &str = "steady";
    /// One hot product, with an idempotency key in each order.
    pub const KEYS: &str = "keys";
    /// One hot product, with an API key in each order, and its rate limit counted.
    pub const ACCESS: &str = "access";
    /// One hot product, with a trace of every hundredth order.
    pub const TRACED: &str = "traced";
    /// One hot product, with a trace of every order.
    pub const ALL_TRACED: &str = "all_traced";
    /// One sold-out product.
    pub const SOLD_OUT: &str = "sold_out";
    /// One hot product at three times its peak, open loop.
    pub const OVERLOAD: &str = "overload";
}

/// A run of the benchmark, as in `latest.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    pub command: String,
    /// Whether it was a quick run.
    pub quick: bool,
    /// The start, in UTC.
    pub started_at: String,
    pub duration_s: f64,
    pub machine: Machine,
    /// The measurements.
    pub points: Vec<Point>,
    /// The results of the audits, in the order of the parts.
    pub audits: Vec<PartAudit>,
    /// Parts that could not be run, with the reason.
    #[serde(default)]
    pub failures: Vec<String>,
}

/// The audit after a part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PartAudit {
    pub part: String,
    pub round: u32,
    /// The result.
    pub findings: Findings,
}

/// A measurement.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Point {
    /// See [`part`].
    pub part: String,
    /// The round, from 1.
    pub round: u32,
    /// The number of products that are ordered or read.
    pub products: u32,
    /// API replicas; 0 if there is no API.
    pub replicas: u32,
    /// Running workers.
    pub workers: u32,
    /// HTTP connections, or pgbench's clients.
    pub connections: u32,
    /// Requests due per second in an open loop; `None` in a closed loop.
    pub offered_per_s: Option<f64>,
    /// The length of the measured time.
    pub measured_s: f64,
    /// Accepted orders.
    pub orders_per_s: f64,
    /// Answered reads.
    pub reads_per_s: f64,
    /// Refusals because of overload.
    pub refused_per_s: f64,
    /// Answers with another status, and requests without an answer. There should be none.
    pub failed: u64,
    /// Requests that were dropped before they were sent, in an open loop.
    pub unsent: u64,
    /// The latency of orders, or of reads if there are more of them.
    pub latency_ms: Quantiles,
    /// The latency of refusals, measured from sending.
    pub refused_latency_ms: Quantiles,
    /// CPU time per answer, by process.
    pub cpu_us: BTreeMap<String, f64>,
    /// The percentage of all processors that other processes used.
    #[serde(default)]
    pub others_cpu_percent: f64,
    /// Memory at the end of the measured time, by process.
    pub memory_mib: BTreeMap<String, f64>,
    /// Figures that only this part has. Each name ends in its unit.
    pub more: BTreeMap<String, f64>,
}

/// Quantiles of a latency; all are zero if there were no measurements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p999: f64,
    /// The maximum.
    pub max: f64,
}

impl From<&Latencies> for Quantiles {
    fn from(latencies: &Latencies) -> Self {
        Self {
            mean: latencies.mean_ms(),
            p50: latencies.quantile_ms(0.5),
            p99: latencies.quantile_ms(0.99),
            p999: latencies.quantile_ms(0.999),
            max: latencies.max_ms(),
        }
    }
}

impl Point {
    /// Sets the figures of a group of clients.
    pub fn with_report(mut self, report: &GroupReport) -> Self {
        self.measured_s = report.seconds;
        self.orders_per_s = report.orders_per_s();
        self.reads_per_s = report.reads_per_s();
        self.refused_per_s = report.refused_per_s();
        self.failed = report.unexpected() + report.timed_out + report.connections_lost;
        self.unsent = report.unsent;
        let most_reads = report.reads.count() > report.orders.count();
        self.latency_ms = if most_reads { (&report.reads).into() } else { (&report.orders).into() };
        self.refused_latency_ms = (&report.refused_from_sending).into();
        self
    }
}

impl Run {
    /// The points of a part that match `like`.
    pub fn points<'a>(
        &'a self,
        part: &'a str,
        like: impl Fn(&Point) -> bool + 'a,
    ) -> impl Iterator<Item = &'a Point> {
        self.points.iter().filter(move |point| point.part == part && like(point))
    }

    /// The median of a figure over the points of a part that match `like`; `None` if there are none.
    pub fn median(
        &self,
        part: &str,
        like: impl Fn(&Point) -> bool,
        figure: impl Fn(&Point) -> f64,
    ) -> Option<f64> {
        median(self.points(part, like).map(figure).collect())
    }

    /// The percentage of all processors that other processes used: the median over the points, and the maximum.
    pub fn disturbance_percent(&self) -> (f64, f64) {
        let shares: Vec<f64> = self.points.iter().map(|point| point.others_cpu_percent).collect();
        let most = shares.iter().copied().fold(0.0, f64::max);
        (median(shares).unwrap_or(0.0), most)
    }

    /// Whether every part was run and no guarantee was violated.
    pub fn succeeded(&self) -> bool {
        self.failures.is_empty() && self.violations() == 0
    }

    /// The number of violations in all parts.
    pub fn violations(&self) -> usize {
        self.audits.iter().map(|audit| audit.findings.violations.len()).sum()
    }
}

/// The median; for an even number of values, the mean of the middle two.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*values.get(middle.checked_sub(1)?)?, upper))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A small run: one hot product and a baseline.
    pub fn sample() -> Run {
        let point = |part: &str, connections, replicas, orders_per_s| Point {
            part: part.to_owned(),
            round: 1,
            products: 1,
            replicas,
            connections,
            orders_per_s,
            ..Point::default()
        };
        Run {
            command: "make bench".into(),
            quick: false,
            started_at: "2026-01-31 12:00 UTC".into(),
            duration_s: 60.0,
            machine: Machine::default(),
            points: vec![
                point(part::HOT, 32, 1, 15_000.0),
                point(part::HOT, 256, 1, 40_000.0),
                point(part::PGBENCH_CTE, 1, 0, 1_000.0),
                point(part::PGBENCH_CTE, 16, 0, 2_000.0),
            ],
            audits: vec![PartAudit {
                part: part::HOT.into(),
                round: 1,
                findings: Findings { orders: 1_000, ..Findings::default() },
            }],
            failures: Vec::new(),
        }
    }

    #[test]
    fn a_run_is_read_back_as_it_was_written() {
        let text = serde_json::to_string(&sample()).unwrap();
        let read: Run = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
