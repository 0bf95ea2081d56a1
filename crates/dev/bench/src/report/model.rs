//! A run and its points. Units are the last word of each name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::machine::Machine;
use crate::audit::Findings;
use crate::load::{GroupReport, Latencies};

/// Names of parts, by which points are found again.
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
    /// Products ordered alike.
    pub const UNIFORM: &str = "uniform";
    /// Products ordered by Zipf's law.
    pub const ZIPF: &str = "zipf";
    /// 95 reads for five orders.
    pub const MIX: &str = "mix";
    /// Reads of products in the cache.
    pub const READS: &str = "reads";
    /// One hot product while workers drain the queue.
    pub const HOT_DRAINING: &str = "hot_draining";
    /// A worker drains the queue by itself.
    pub const DRAIN: &str = "drain";
    /// Other products while one row is locked.
    pub const ROW_LOCKED: &str = "row_locked";
    /// Other products while rows of every kind are locked.
    pub const ROWS_LOCKED: &str = "rows_locked";
    /// One hot product on two replicas while rows of every kind are locked.
    pub const ROWS_LOCKED_HOT: &str = "rows_locked_hot";
    /// One hot product at 70 % of its peak, open loop.
    pub const STEADY: &str = "steady";
    /// One hot product, an idempotency key with each order.
    pub const KEYS: &str = "keys";
    /// One hot product, a key shown with each order and a limit counted.
    pub const ACCESS: &str = "access";
    /// One hot product, a trace of each hundredth order.
    pub const TRACED: &str = "traced";
    /// One hot product, a trace of each order.
    pub const ALL_TRACED: &str = "all_traced";
    /// One product that is sold out.
    pub const SOLD_OUT: &str = "sold_out";
    /// One hot product at three times its peak, open loop.
    pub const OVERLOAD: &str = "overload";
}

/// One run of the benchmark: all that `latest.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// What was typed.
    pub command: String,
    /// Whether it was the short one.
    pub quick: bool,
    /// When it began, in UTC.
    pub started_at: String,
    /// How long it took.
    pub duration_s: f64,
    /// What it ran on.
    pub machine: Machine,
    /// All that was measured.
    pub points: Vec<Point>,
    /// What the audits found, in the order of the parts.
    pub audits: Vec<PartAudit>,
    /// Parts that could not be run, and why.
    #[serde(default)]
    pub failures: Vec<String>,
}

/// An audit after a part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PartAudit {
    /// Which part.
    pub part: String,
    /// In which round.
    pub round: u32,
    /// What was found.
    pub findings: Findings,
}

/// One measurement.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Point {
    /// See [`part`].
    pub part: String,
    /// The round, from 1.
    pub round: u32,
    /// Products ordered or read.
    pub products: u32,
    /// API replicas; 0 where there is no API.
    pub replicas: u32,
    /// Workers running.
    pub workers: u32,
    /// HTTP connections, or pgbench's clients.
    pub connections: u32,
    /// Requests due per second in an open loop; `None` in a closed one.
    pub offered_per_s: Option<f64>,
    /// Length of the measured time.
    pub measured_s: f64,
    /// Accepted orders.
    pub orders_per_s: f64,
    /// Answered reads.
    pub reads_per_s: f64,
    /// Refusals for want of room.
    pub refused_per_s: f64,
    /// Answers of another kind, and requests without one. None is expected.
    pub failed: u64,
    /// Given up before sending, in an open loop.
    pub unsent: u64,
    /// Of orders; of reads where there are more of those.
    pub latency_ms: Quantiles,
    /// Of refusals, from sending.
    pub refused_latency_ms: Quantiles,
    /// CPU time for each answer, by process.
    pub cpu_us: BTreeMap<String, f64>,
    /// Of all processors, taken by what is not part of the benchmark.
    #[serde(default)]
    pub others_cpu_percent: f64,
    /// Memory at the end of the measured time, by process.
    pub memory_mib: BTreeMap<String, f64>,
    /// What only this part has, by a name that ends in its unit.
    pub more: BTreeMap<String, f64>,
}

/// The usual quantiles of a latency; all zero when there was nothing to measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Mean.
    pub mean: f64,
    /// Half are faster.
    pub p50: f64,
    /// One in 100 is slower.
    pub p99: f64,
    /// One in 1,000 is slower.
    pub p999: f64,
    /// The slowest.
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
    /// Takes over what a group of clients saw.
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
    /// The points of a part that are like `like` asks.
    pub fn points<'a>(
        &'a self,
        part: &'a str,
        like: impl Fn(&Point) -> bool + 'a,
    ) -> impl Iterator<Item = &'a Point> {
        self.points.iter().filter(move |point| point.part == part && like(point))
    }

    /// The median of a figure over the points of a part that are like `like` asks; `None` without
    /// any.
    pub fn median(
        &self,
        part: &str,
        like: impl Fn(&Point) -> bool,
        figure: impl Fn(&Point) -> f64,
    ) -> Option<f64> {
        median(self.points(part, like).map(figure).collect())
    }

    /// What was not part of the benchmark took of all processors, in per cent: the median over the
    /// points, and the most.
    pub fn disturbance_percent(&self) -> (f64, f64) {
        let shares: Vec<f64> = self.points.iter().map(|point| point.others_cpu_percent).collect();
        let most = shares.iter().copied().fold(0.0, f64::max);
        (median(shares).unwrap_or(0.0), most)
    }

    /// Whether every part was run and every promise held.
    pub fn succeeded(&self) -> bool {
        self.failures.is_empty() && self.violations() == 0
    }

    /// Broken promises of all parts.
    pub fn violations(&self) -> usize {
        self.audits.iter().map(|audit| audit.findings.violations.len()).sum()
    }
}

/// The middle one; of an even number the mean of the middle two.
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
