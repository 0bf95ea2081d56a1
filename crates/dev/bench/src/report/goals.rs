//! The figures to reach. Each is a ratio of two figures of the same run wherever that is possible,
//! so that it holds on any machine; over several rounds, of their medians.

use super::model::{Point, Run, median, part};
use super::numbers::figure;

/// Connections at which the goals are measured.
const CONNECTIONS: u32 = 256;

/// What counts as "no loss": the spread from one round to the next is of this order.
const NO_LOSS: f64 = 0.98;

/// A figure to reach, and what was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// What was done.
    pub work: &'static str,
    /// The least.
    pub must: Bound,
    /// What is hoped for.
    pub aim: Bound,
    /// `None` when the run did not measure it.
    pub measured: Option<f64>,
    /// What it is counted in.
    pub unit: Unit,
    /// The figures that it was made from.
    pub made_from: String,
}

/// What a goal is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// `×`
    Times,
    /// `ms`
    Milliseconds,
    /// `s`
    Seconds,
    /// `MiB`
    Mebibytes,
    /// `orders/s`
    OrdersPerSecond,
    /// A plain count.
    Count,
}

/// A bound of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// Not less.
    AtLeast(f64),
    /// Not more.
    AtMost(f64),
}

/// Whether a goal is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What was hoped for.
    Aim,
    /// The least.
    Must,
    /// Less than that.
    Missed,
    /// The run did not measure it.
    NotMeasured,
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }

    /// Such as `≥ 12 ×`.
    pub fn text(self, unit: Unit) -> String {
        match self {
            Self::AtLeast(bound) if (bound - NO_LOSS).abs() < f64::EPSILON => "no loss".into(),
            Self::AtLeast(0.0) => "–".into(),
            Self::AtLeast(bound) => format!("≥ {}", unit.short(bound)),
            Self::AtMost(0.0) => "none".into(),
            Self::AtMost(bound) => format!("≤ {}", unit.short(bound)),
        }
    }
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Times => " ×",
            Self::Milliseconds => " ms",
            Self::Seconds => " s",
            Self::Mebibytes => " MiB",
            Self::OrdersPerSecond => " orders/s",
            Self::Count => "",
        }
    }

    /// A bound, without needless digits.
    fn short(self, value: f64) -> String {
        let text = if value >= 1_000.0 { figure(value) } else { value.to_string() };
        format!("{text}{}", self.name())
    }

    /// A measured value.
    pub fn text(self, value: f64) -> String {
        match self {
            Self::Count => figure(value).trim_end_matches(".00").to_owned(),
            _ => format!("{}{}", figure(value), self.name()),
        }
    }
}

impl Goal {
    /// Whether it is reached.
    pub fn verdict(&self) -> Verdict {
        match self.measured {
            None => Verdict::NotMeasured,
            Some(value) if self.aim.holds(value) => Verdict::Aim,
            Some(value) if self.must.holds(value) => Verdict::Must,
            Some(_) => Verdict::Missed,
        }
    }
}

/// All goals, with what the run measured.
pub fn goals(run: &Run) -> Vec<Goal> {
    let mut goals = throughput(run);
    goals.extend(others(run));
    goals.extend(overload(run));
    goals
}

fn throughput(run: &Run) -> Vec<Goal> {
    use Bound::AtLeast;
    let orders = |point: &Point| point.orders_per_s;
    let at = |connections: u32, replicas: u32| {
        move |point: &Point| point.connections == connections && point.replicas == replicas
    };
    let hot = run.median(part::HOT, at(CONNECTIONS, 1), orders);
    let nothing = run.median(part::NOTHING_POST, at(CONNECTIONS, 0), orders);
    let cte_one = best_of_rounds(run, part::PGBENCH_CTE, 1);
    let cte_many = best_of_rounds(run, part::PGBENCH_CTE, 1_000);
    let uniform = run.median(part::UNIFORM, at(CONNECTIONS, 1), orders);
    let draining = run.median(part::HOT_DRAINING, at(CONNECTIONS, 1), orders);
    let two = run.median(part::HOT, at(CONNECTIONS, 2), orders);
    let many = run.median(part::HOT, at(1_024, 1), orders);
    let alone = |part| run.median(part, at(CONNECTIONS, 1), orders);
    let sold_out = run.median(part::SOLD_OUT, |_| true, |point| more(point, "sold_out_per_s"));
    let reads =
        |part, replicas| run.median(part, at(CONNECTIONS, replicas), |point| point.reads_per_s);
    let locked = |part| {
        let rate = |name: &'static str| run.median(part, |_| true, move |point| more(point, name));
        (rate("locked_orders_per_s"), rate("open_orders_per_s"))
    };
    vec![
        ratio(
            "hot product, 256 connections, workers stopped; against pgbench's best of one statement on one row",
            (AtLeast(12.0), AtLeast(20.0)),
            (hot, cte_one),
        ),
        ratio(
            "the same against a POST that does nothing",
            (AtLeast(0.0), AtLeast(0.5)),
            (hot, nothing),
        ),
        ratio(
            "hot product while two workers drain, empty fulfilment; against the same pgbench",
            (AtLeast(5.0), AtLeast(8.0)),
            (draining, cte_one),
        ),
        ratio(
            "1,000 products, 256 connections; against pgbench's best of one statement on 1,000 rows",
            (AtLeast(2.0), AtLeast(3.0)),
            (uniform, cte_many),
        ),
        ratio(
            "one row locked by another session's transaction; the others against a transaction that holds nothing",
            (AtLeast(0.9), AtLeast(NO_LOSS)),
            locked(part::ROW_LOCKED),
        ),
        ratio(
            "the same with the rows of 30 products, 2,000 orders and 8 keys",
            (AtLeast(0.9), AtLeast(NO_LOSS)),
            locked(part::ROWS_LOCKED),
        ),
        ratio(
            "the same rows locked beside a hot product on two replicas",
            (AtLeast(0.9), AtLeast(NO_LOSS)),
            locked(part::ROWS_LOCKED_HOT),
        ),
        ratio(
            "reads of cached products; against a GET that does nothing",
            (AtLeast(0.8), AtLeast(0.9)),
            (reads(part::READS, 1), reads(part::NOTHING_GET, 0)),
        ),
        ratio(
            "two API replicas on one hot product; against one",
            (AtLeast(0.9), AtLeast(1.0)),
            (two, hot),
        ),
        ratio(
            "hot product at 1,024 connections; against 256",
            (AtLeast(0.9), AtLeast(NO_LOSS)),
            (many, hot),
        ),
        ratio(
            "hot product with an Idempotency-Key on each order; against without",
            (AtLeast(0.7), AtLeast(0.9)),
            (alone(part::KEYS), hot),
        ),
        ratio(
            "hot product with an API key on each order, and its rate counted; against without",
            (AtLeast(0.0), AtLeast(0.9)),
            (alone(part::ACCESS), hot),
        ),
        ratio(
            "hot product with a trace of each hundredth order; against without",
            (AtLeast(0.97), AtLeast(NO_LOSS)),
            (alone(part::TRACED), hot),
        ),
        ratio(
            "hot product with a trace of each order; against without",
            (AtLeast(0.0), AtLeast(0.0)),
            (alone(part::ALL_TRACED), hot),
        ),
        ratio(
            "refusals of a sold-out product; against orders of the hot one",
            (AtLeast(1.0), AtLeast(1.0)),
            (sold_out, hot),
        ),
    ]
}

fn others(run: &Run) -> Vec<Goal> {
    use Bound::{AtLeast, AtMost};
    let mean = |point: &Point| point.latency_ms.mean;
    let one = |replicas| {
        move |point: &Point| {
            point.connections == 1 && point.replicas == replicas && point.products == 1
        }
    };
    let p99 = run.median(part::STEADY, |_| true, |point| point.latency_ms.p99);
    let offered = run.median(part::STEADY, |_| true, |point| point.offered_per_s.unwrap_or(0.0));
    let memory = run.median(
        part::HOT,
        |point| point.connections == 1_024 && point.replicas == 1,
        |point| point.memory_mib.get("API").copied().unwrap_or(0.0),
    );
    let drained = run.median(part::DRAIN, |_| true, |point| more(point, "drained_orders_per_s"));
    vec![
        Goal {
            work: "hot product, 256 connections at 70 % of the peak, open loop: 99 of 100 orders",
            must: AtMost(15.0),
            aim: AtMost(5.0),
            measured: p99,
            unit: Unit::Milliseconds,
            made_from: offered.map_or(String::new(), |it| format!("{} orders/s due", figure(it))),
        },
        Goal {
            unit: Unit::Times,
            ..latency_ratio(
                "one connection, idle system; against one FOR UPDATE transaction in pgbench",
                (AtMost(1.5), AtMost(1.1)),
                (
                    run.median(part::HOT, one(1), mean),
                    run.median(part::PGBENCH_FOR_UPDATE, one(0), mean),
                ),
            )
        },
        Goal {
            work: "resident memory of the API at 1,024 connections",
            must: AtMost(96.0),
            aim: AtMost(48.0),
            measured: memory,
            unit: Unit::Mebibytes,
            made_from: String::new(),
        },
        Goal {
            work: "one worker, empty fulfilment",
            must: AtLeast(10_000.0),
            aim: AtLeast(30_000.0),
            measured: drained,
            unit: Unit::OrdersPerSecond,
            made_from: String::new(),
        },
    ]
}

fn overload(run: &Run) -> Vec<Goal> {
    use Bound::{AtLeast, AtMost};
    let of = |figure: fn(&Point) -> f64| run.median(part::OVERLOAD, |_| true, figure);
    let single = |work, bound: Bound, unit, measured| Goal {
        work,
        must: bound,
        aim: bound,
        measured,
        unit,
        made_from: String::new(),
    };
    vec![
        ratio(
            "three times the peak offered, one hot product; accepted orders against the peak",
            (AtLeast(0.9), AtLeast(0.9)),
            (of(|point| point.orders_per_s), of(|point| more(point, "peak_orders_per_s"))),
        ),
        single(
            "the surplus: 99 of 100 refusals, from sending",
            AtMost(100.0),
            Unit::Milliseconds,
            of(|point| point.refused_latency_ms.p99),
        ),
        single(
            "refusals that do not say when to come again",
            AtMost(0.0),
            Unit::Count,
            of(|point| more(point, "refused_without_retry_after")),
        ),
        single(
            "answers of another kind than 201 and 503, and requests without an answer",
            AtMost(0.0),
            Unit::Count,
            of(|point| point.failed as f64),
        ),
        single(
            "probes of /livez without an answer in a second",
            AtMost(0.0),
            Unit::Count,
            of(|point| more(point, "livez_failed")),
        ),
        single(
            "all is normal after the load stops",
            AtMost(2.0),
            Unit::Seconds,
            of(|point| more(point, "recovered_after_s")),
        ),
    ]
}

fn more(point: &Point, name: &str) -> f64 {
    point.more.get(name).copied().unwrap_or(f64::NAN)
}

/// The best over pgbench's clients in each round; of these the median.
pub fn best_of_rounds(run: &Run, part: &str, products: u32) -> Option<f64> {
    let rounds = run.points.iter().map(|point| point.round).max()?;
    let best = |round| {
        run.points(part, move |point| point.round == round && point.products == products)
            .map(|point| point.orders_per_s)
            .max_by(f64::total_cmp)
    };
    median((1..=rounds).filter_map(best).collect())
}

fn ratio(
    work: &'static str,
    (must, aim): (Bound, Bound),
    (ours, other): (Option<f64>, Option<f64>),
) -> Goal {
    let measured = ours.zip(other).map(|(ours, other)| ours / other).filter(|it| it.is_finite());
    let made_from = match (ours, other) {
        (Some(ours), Some(other)) => format!("{} / {} per s", figure(ours), figure(other)),
        _ => String::new(),
    };
    Goal { work, must, aim, measured, unit: Unit::Times, made_from }
}

fn latency_ratio(
    work: &'static str,
    bounds: (Bound, Bound),
    (ours, other): (Option<f64>, Option<f64>),
) -> Goal {
    let made_from = match (ours, other) {
        (Some(ours), Some(other)) => format!("{} / {} ms", figure(ours), figure(other)),
        _ => String::new(),
    };
    Goal { made_from, ..ratio(work, bounds, (ours, other)) }
}
