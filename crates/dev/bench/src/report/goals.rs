//! The goals. Each is a ratio of two figures of the same run where that is possible, so that it is valid on any
//! machine. Over several rounds, the medians are used.

use super::model::{Point, Run, median, part};
use super::numbers::figure;

/// The number of connections at which the goals are measured.
const CONNECTIONS: u32 = 256;

/// The ratio that counts as "no loss". Rounds differ by about as much.
const NO_LOSS: f64 = 0.98;

/// A goal and the measured figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// The description of the measurement.
    pub work: &'static str,
    /// The minimum.
    pub must: Bound,
    pub aim: Bound,
    /// `None` if it was not measured.
    pub measured: Option<f64>,
    pub unit: GoalUnit,
    /// The figures from which it was computed.
    pub made_from: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoalUnit {
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
    Count,
}

/// A bound of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// Whether a goal is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoalResult {
    /// The aim is reached.
    Aim,
    /// The minimum is reached.
    Must,
    /// The minimum is not reached.
    Missed,
    /// It was not measured.
    NotMeasured,
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }

    /// For example `≥ 12 ×`.
    pub fn text(self, unit: GoalUnit) -> String {
        match self {
            Self::AtLeast(bound) if (bound - NO_LOSS).abs() < f64::EPSILON => "no loss".into(),
            Self::AtLeast(0.0) => "–".into(),
            Self::AtLeast(bound) => format!("≥ {}", unit.short(bound)),
            Self::AtMost(0.0) => "none".into(),
            Self::AtMost(bound) => format!("≤ {}", unit.short(bound)),
        }
    }
}

impl GoalUnit {
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

    /// Formats a bound without unnecessary digits.
    fn short(self, value: f64) -> String {
        let text = if value >= 1_000.0 { figure(value) } else { value.to_string() };
        format!("{text}{}", self.name())
    }

    /// Formats a measured value.
    pub fn text(self, value: f64) -> String {
        match self {
            Self::Count => figure(value).trim_end_matches(".00").to_owned(),
            _ => format!("{}{}", figure(value), self.name()),
        }
    }
}

impl Goal {
    fn of(
        work: &'static str,
        (must, aim): (Bound, Bound),
        (measured, unit): (Option<f64>, GoalUnit),
    ) -> Self {
        Self { work, must, aim, measured, unit, made_from: String::new() }
    }

    /// Whether it is reached.
    pub fn verdict(&self) -> GoalResult {
        match self.measured {
            None => GoalResult::NotMeasured,
            Some(value) if self.aim.holds(value) => GoalResult::Aim,
            Some(value) if self.must.holds(value) => GoalResult::Must,
            Some(_) => GoalResult::Missed,
        }
    }
}

/// All goals with the figures of the run.
pub fn goals(run: &Run) -> Vec<Goal> {
    let mut goals = throughput(run);
    goals.extend(others(run));
    goals.extend(overload(run));
    goals
}

/// Orders per second of a part with one product or the usual number, at this number of connections and replicas.
fn orders(run: &Run, part: &str, connections: u32, replicas: u32) -> Option<f64> {
    let like = |it: &Point| it.connections == connections && it.replicas == replicas;
    run.median(part, like, |point| point.orders_per_s)
}

/// A figure of a part with a single measurement.
fn single(run: &Run, part: &str, figure: impl Fn(&Point) -> f64) -> Option<f64> {
    run.median(part, |_| true, figure)
}

fn throughput(run: &Run) -> Vec<Goal> {
    let alone = |part| orders(run, part, CONNECTIONS, 1);
    let hot = alone(part::HOT);
    let nothing = orders(run, part::NOTHING_POST, CONNECTIONS, 0);
    let statement = |products| best_of_rounds(run, part::PGBENCH_CTE, products);
    let named = |part, name: &'static str| single(run, part, move |point| more(point, name));
    let locked = |part| (named(part, "locked_orders_per_s"), named(part, "open_orders_per_s"));
    let reads = |part, replicas| {
        let like = |it: &Point| it.connections == CONNECTIONS && it.replicas == replicas;
        run.median(part, like, |point| point.reads_per_s)
    };
    // The description; the minimum and the aim; the figure of Holdfast, and what it is compared with.
    [
        (
            "hot product, 256 connections, workers stopped; against pgbench's best of one statement on one row",
            (12.0, 20.0),
            (hot, statement(1)),
        ),
        ("the same against a POST that does nothing", (0.0, 0.5), (hot, nothing)),
        (
            "hot product while two workers drain, empty fulfilment; against the same pgbench",
            (5.0, 8.0),
            (alone(part::HOT_DRAINING), statement(1)),
        ),
        (
            "1,000 products, 256 connections; against pgbench's best of one statement on 1,000 rows",
            (2.0, 3.0),
            (alone(part::UNIFORM), statement(1_000)),
        ),
        (
            "one row locked by another session's transaction; the other products, against an open transaction without locks",
            (0.9, NO_LOSS),
            locked(part::ROW_LOCKED),
        ),
        (
            "the same with the rows of 30 products, 2,000 orders and 8 keys",
            (0.9, NO_LOSS),
            locked(part::ROWS_LOCKED),
        ),
        (
            "the same rows locked, with a hot product on two replicas",
            (0.9, NO_LOSS),
            locked(part::ROWS_LOCKED_HOT),
        ),
        (
            "reads of cached products; against a GET that does nothing",
            (0.8, 0.9),
            (reads(part::READS, 1), reads(part::NOTHING_GET, 0)),
        ),
        (
            "two API replicas on one hot product; against one",
            (0.9, 1.0),
            (orders(run, part::HOT, CONNECTIONS, 2), hot),
        ),
        (
            "hot product at 1,024 connections; against 256",
            (0.9, NO_LOSS),
            (orders(run, part::HOT, 1_024, 1), hot),
        ),
        (
            "hot product with an Idempotency-Key in each order; against without",
            (0.7, 0.9),
            (alone(part::KEYS), hot),
        ),
        (
            "hot product with an API key in each order, and its rate counted; against without",
            (0.0, 0.9),
            (alone(part::ACCESS), hot),
        ),
        (
            "hot product with a trace of every hundredth order; against without",
            (0.97, NO_LOSS),
            (alone(part::TRACED), hot),
        ),
        (
            "hot product with a trace of every order; against without",
            (0.0, 0.0),
            (alone(part::ALL_TRACED), hot),
        ),
        (
            "refusals of a sold-out product; against orders of the hot one",
            (1.0, 1.0),
            (named(part::SOLD_OUT, "sold_out_per_s"), hot),
        ),
    ]
    .map(|(work, (must, aim), figures)| {
        ratio(work, (Bound::AtLeast(must), Bound::AtLeast(aim)), figures, "per s")
    })
    .into()
}

fn others(run: &Run) -> Vec<Goal> {
    use Bound::{AtLeast, AtMost};
    let mean = |part, replicas| {
        let like =
            move |it: &Point| it.connections == 1 && it.replicas == replicas && it.products == 1;
        run.median(part, like, |point| point.latency_ms.mean)
    };
    let offered = single(run, part::STEADY, |point| point.offered_per_s.unwrap_or(0.0));
    let memory = run.median(
        part::HOT,
        |point| point.connections == 1_024 && point.replicas == 1,
        |point| point.memory_mib.get("API").copied().unwrap_or(0.0),
    );
    vec![
        Goal {
            made_from: offered.map_or(String::new(), |it| format!("{} orders/s due", figure(it))),
            ..Goal::of(
                "hot product, 256 connections at 70 % of the peak, open loop: 99th percentile of orders",
                (AtMost(15.0), AtMost(5.0)),
                (single(run, part::STEADY, |point| point.latency_ms.p99), GoalUnit::Milliseconds),
            )
        },
        ratio(
            "one connection, idle system; against one FOR UPDATE transaction in pgbench",
            (AtMost(1.5), AtMost(1.1)),
            (mean(part::HOT, 1), mean(part::PGBENCH_FOR_UPDATE, 0)),
            "ms",
        ),
        Goal::of(
            "resident memory of the API at 1,024 connections",
            (AtMost(96.0), AtMost(48.0)),
            (memory, GoalUnit::Mebibytes),
        ),
        Goal::of(
            "one worker, empty fulfilment",
            (AtLeast(10_000.0), AtLeast(30_000.0)),
            (
                single(run, part::DRAIN, |point| more(point, "drained_orders_per_s")),
                GoalUnit::OrdersPerSecond,
            ),
        ),
    ]
}

type Figure = fn(&Point) -> f64;

fn overload(run: &Run) -> Vec<Goal> {
    let of = |figure: Figure| single(run, part::OVERLOAD, figure);
    let mut goals = vec![ratio(
        "three times the peak offered, one hot product; accepted orders against the peak",
        (Bound::AtLeast(0.9), Bound::AtLeast(0.9)),
        (of(|point| point.orders_per_s), of(|point| more(point, "peak_orders_per_s"))),
        "per s",
    )];
    let most: [(&str, f64, GoalUnit, Figure); 5] = [
        ("refused orders: 99th percentile, from sending", 100.0, GoalUnit::Milliseconds, |it| {
            it.refused_latency_ms.p99
        }),
        ("refusals without Retry-After", 0.0, GoalUnit::Count, |it| {
            more(it, "refused_without_retry_after")
        }),
        (
            "answers other than 201 and 503, and requests without an answer",
            0.0,
            GoalUnit::Count,
            |it| it.failed as f64,
        ),
        ("probes of /livez without an answer in a second", 0.0, GoalUnit::Count, |it| {
            more(it, "livez_failed")
        }),
        ("time to recover after the load stops", 2.0, GoalUnit::Seconds, |it| {
            more(it, "recovered_after_s")
        }),
    ];
    goals.extend(most.map(|(work, bound, unit, figure)| {
        Goal::of(work, (Bound::AtMost(bound), Bound::AtMost(bound)), (of(figure), unit))
    }));
    goals
}

fn more(point: &Point, name: &str) -> f64 {
    point.more.get(name).copied().unwrap_or(f64::NAN)
}

/// The best result over the numbers of pgbench clients in each round; of these, the median.
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
    bounds: (Bound, Bound),
    (ours, other): (Option<f64>, Option<f64>),
    unit: &str,
) -> Goal {
    let measured = ours.zip(other).map(|(ours, other)| ours / other).filter(|it| it.is_finite());
    let made_from = match (ours, other) {
        (Some(ours), Some(other)) => format!("{} / {} {unit}", figure(ours), figure(other)),
        _ => String::new(),
    };
    Goal { made_from, ..Goal::of(work, bounds, (measured, GoalUnit::Times)) }
}
