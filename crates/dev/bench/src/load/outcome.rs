//! The results of the requests.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::connection::ReceivedAnswer;
use super::requests::{PreparedRequest, RequestKind};

/// The width of a step of [`GroupReport::timeline`].
pub const TICK: Duration = Duration::from_millis(100);

/// The highest latency that a histogram can record. Higher ones count as this.
const LATENCY_MAX: Duration = Duration::from_mins(1);

/// The results of a plan.
#[derive(Clone, Debug)]
pub struct LoadReport {
    /// In the order of the plan.
    pub groups: Vec<GroupReport>,
    /// The time from the last request to the last answer.
    pub drain: Duration,
}

/// The results of a group's requests. Counts are for the measured time unless stated otherwise.
#[derive(Clone, Debug)]
pub struct GroupReport {
    /// As in the plan.
    pub name: &'static str,
    /// Length of the measured time in seconds.
    pub seconds: f64,
    /// Requests that were due (open loop) or sent (closed loop).
    pub offered: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Accepted orders (201).
    pub orders: Latencies,
    /// Answered reads (200).
    pub reads: Latencies,
    /// Refusals because of stock or a sale (409).
    pub sold_out: Latencies,
    /// Refusals because of overload (503, 429).
    pub refused: Latencies,
    /// The same, measured from sending even in an open loop: the part of the server if the generator cannot keep up.
    pub refused_from_sending: Latencies,
    /// The delay of sending: the generator's own delay and the wait for a free connection.
    pub sent_late: Latencies,
    /// Refusals because of overload without `Retry-After`.
    pub refused_without_retry_after: u64,
    /// Requests that were dropped because no connection was free.
    pub unsent: u64,
    /// Requests without an answer in the plan's limit, in the whole run.
    pub timed_out: u64,
    /// Connections that the server closed or on which it sent an invalid answer, in the whole run.
    pub connections_lost: u64,
    /// Orders that were sent and not answered, in the whole run. They may or may not exist.
    pub cut_off: u64,
    /// Orders whose answer leaves open if they exist (504, or 503 `outcome-unknown`), in the whole run.
    pub outcome_unknown: u64,
    /// What became of every request of the whole run.
    pub outcomes: Outcomes,
    /// Every accepted order of the whole run.
    pub accepted: Vec<Accepted>,
    /// Answers in each [`TICK`] since the start, warm-up included.
    pub timeline: Vec<Tick>,
}

/// What became of the requests of the whole run, warm-up and answers after the end included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Requests that were due (open loop) or sent (closed loop).
    pub due: u64,
    /// Answers by status.
    pub answers: BTreeMap<u16, u64>,
    /// Requests that were sent, at least in part, and not answered.
    pub unanswered: u64,
    /// Requests that were dropped because no connection was free.
    pub unsent: u64,
}

impl Outcomes {
    pub fn answered(&self) -> u64 {
        self.answers.values().sum()
    }

    /// Whether each request has one outcome.
    pub fn are_complete(&self) -> bool {
        self.due == self.answered() + self.unanswered + self.unsent
    }

    fn merge(&mut self, other: Self) {
        self.due += other.due;
        for (status, count) in other.answers {
            *self.answers.entry(status).or_default() += count;
        }
        self.unanswered += other.unanswered;
        self.unsent += other.unsent;
    }
}

impl fmt::Display for Outcomes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "answers by status: {:?}", self.answers)?;
        write!(
            out,
            "requests: {} due, {} answered, {} without an answer, {} not sent",
            self.due,
            self.answered(),
            self.unanswered,
            self.unsent
        )
    }
}

/// An order that was answered with 201.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Accepted {
    /// The id in the answer.
    pub id: i64,
    pub product_id: i64,
    /// The number of units.
    pub quantity: i32,
}

/// Answers within a [`TICK`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tick {
    /// Accepted orders.
    pub orders: u32,
    /// Answered reads.
    pub reads: u32,
    /// Refusals because of overload.
    pub refused: u32,
}

impl LoadReport {
    pub(super) fn merge(&mut self, other: Self) {
        self.drain = self.drain.max(other.drain);
        for (own, other) in self.groups.iter_mut().zip(other.groups) {
            own.merge(other);
        }
    }
}

impl GroupReport {
    pub(super) fn new(name: &'static str, measured: Duration, ticks: usize) -> Self {
        Self {
            name,
            seconds: measured.as_secs_f64(),
            offered: 0,
            statuses: BTreeMap::new(),
            orders: Latencies::default(),
            reads: Latencies::default(),
            sold_out: Latencies::default(),
            refused: Latencies::default(),
            refused_from_sending: Latencies::default(),
            sent_late: Latencies::default(),
            refused_without_retry_after: 0,
            unsent: 0,
            timed_out: 0,
            connections_lost: 0,
            cut_off: 0,
            outcome_unknown: 0,
            outcomes: Outcomes::default(),
            accepted: Vec::new(),
            timeline: vec![Tick::default(); ticks],
        }
    }

    /// Accepted orders per second.
    pub fn orders_per_s(&self) -> f64 {
        self.orders.count() as f64 / self.seconds
    }

    /// Answered reads per second.
    pub fn reads_per_s(&self) -> f64 {
        self.reads.count() as f64 / self.seconds
    }

    /// Refusals because of stock (409) per second.
    pub fn sold_out_per_s(&self) -> f64 {
        self.statuses.get(&409).copied().unwrap_or(0) as f64 / self.seconds
    }

    /// Refusals because of overload per second.
    pub fn refused_per_s(&self) -> f64 {
        self.refused.count() as f64 / self.seconds
    }

    /// Requests in the measured time with any other answer.
    pub fn unexpected(&self) -> u64 {
        let expected = [200, 201, 409, 429, 503];
        self.statuses
            .iter()
            .filter(|(status, _)| !expected.contains(status))
            .map(|(_, count)| count)
            .sum()
    }

    /// Accepted orders per second between two moments of the run, warm-up included.
    pub fn orders_per_s_between(&self, from: Duration, to: Duration) -> f64 {
        let tick = |at: Duration| (at.as_nanos() / TICK.as_nanos()) as usize;
        let (from, to) = (tick(from), tick(to).min(self.timeline.len()));
        let orders: u32 =
            self.timeline.get(from..to).unwrap_or_default().iter().map(|tick| tick.orders).sum();
        f64::from(orders) / (TICK.as_secs_f64() * to.saturating_sub(from).max(1) as f64)
    }

    pub(super) fn count(&mut self, request: &PreparedRequest, answered: &Answered) {
        let (latency, since_sent) = (answered.since_due_ns, answered.since_sent_ns);
        let mut tick = Tick::default();
        let measured = answered.measured;
        let answer = &answered.answer;
        *self.outcomes.answers.entry(answer.status).or_default() += 1;
        if answer.outcome_unknown && request.kind == RequestKind::Order {
            self.outcome_unknown += 1;
        }
        match (answer.status, request.kind) {
            (201, RequestKind::Order) => {
                tick.orders = 1;
                if measured {
                    self.orders.record_ns(latency);
                }
                // An order without an id cannot be found, so the audit counts an additional order.
                if let Some(id) = answer.id {
                    self.accepted.push(Accepted {
                        id,
                        product_id: request.product_id,
                        quantity: request.quantity,
                    });
                }
            }
            (200, RequestKind::Read) => {
                tick.reads = 1;
                if measured {
                    self.reads.record_ns(latency);
                }
            }
            (409, _) if measured => self.sold_out.record_ns(latency),
            (429 | 503, _) => {
                tick.refused = 1;
                if measured {
                    self.refused.record_ns(latency);
                    self.refused_from_sending.record_ns(since_sent);
                    self.refused_without_retry_after += u64::from(!answer.retry_after);
                }
            }
            _ => {}
        }
        if measured {
            *self.statuses.entry(answer.status).or_default() += 1;
        }
        if let Some(slot) = self.timeline.get_mut(answered.tick) {
            slot.add(tick);
        }
    }

    fn merge(&mut self, other: Self) {
        self.offered += other.offered;
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.orders.merge(&other.orders);
        self.reads.merge(&other.reads);
        self.sold_out.merge(&other.sold_out);
        self.refused.merge(&other.refused);
        self.refused_from_sending.merge(&other.refused_from_sending);
        self.sent_late.merge(&other.sent_late);
        self.refused_without_retry_after += other.refused_without_retry_after;
        self.unsent += other.unsent;
        self.timed_out += other.timed_out;
        self.connections_lost += other.connections_lost;
        self.cut_off += other.cut_off;
        self.outcome_unknown += other.outcome_unknown;
        self.outcomes.merge(other.outcomes);
        self.accepted.extend(other.accepted);
        for (own, other) in self.timeline.iter_mut().zip(other.timeline) {
            own.add(other);
        }
    }
}

/// An answer in the event loop.
pub(super) struct Answered {
    pub answer: ReceivedAnswer,
    pub since_due_ns: u64,
    pub since_sent_ns: u64,
    /// Within the measured time.
    pub measured: bool,
    pub tick: usize,
}

impl Tick {
    fn add(&mut self, other: Self) {
        self.orders += other.orders;
        self.reads += other.reads;
        self.refused += other.refused;
    }
}

/// Latencies, with three significant digits.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// In microseconds. `None` only if the bounds above are invalid.
    histogram: Option<Histogram<u64>>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { histogram: Histogram::new_with_max(LATENCY_MAX.as_micros() as u64, 3).ok() }
    }
}

impl Latencies {
    /// Adds a latency, in nanoseconds.
    pub fn record_ns(&mut self, latency_ns: u64) {
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record((latency_ns / 1_000).max(1));
        }
    }

    /// The number of latencies.
    pub fn count(&self) -> u64 {
        self.histogram.as_ref().map_or(0, Histogram::len)
    }

    /// The quantile (0 to 1) in milliseconds; 0 if there are no latencies.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        self.histogram.as_ref().map_or(0.0, |it| it.value_at_quantile(quantile) as f64 / 1e3)
    }

    /// The mean in milliseconds; 0 if there are no latencies.
    pub fn mean_ms(&self) -> f64 {
        self.histogram.as_ref().map_or(0.0, |it| it.mean() / 1e3)
    }

    /// The maximum in milliseconds; 0 if there are no latencies.
    pub fn max_ms(&self) -> f64 {
        self.histogram.as_ref().map_or(0.0, |it| it.max() as f64 / 1e3)
    }

    fn merge(&mut self, other: &Self) {
        if let (Some(own), Some(other)) = (&mut self.histogram, &other.histogram) {
            // All have the same bounds, so this cannot fail.
            let _ = own.add(other);
        }
    }
}
