//! Current statistics, as `GET /stats` shows them.

use std::collections::BTreeMap;

use holdfast_admission::Refusal;
use holdfast_telemetry::Readiness;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    ConsoleReplica,
    history::{AdmissionWaits, ConsoleHistory, WINDOW, WaitQuantiles},
    system::{Backlog, COUNTED_MAX, QueueNumbers, System, WORKER_SEEN},
};
use crate::shown_time::ShownTime;

/// Current statistics: some of the process that answers, some of the whole system.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Stats)]
pub struct StatsBody {
    /// The time, by the clock of this process.
    #[schema(value_type = String, format = DateTime)]
    at: ShownTime,
    /// The process that answers. `orders` and `admission` are about this process.
    replica: ReplicaBody,
    /// The number of seconds over which rates and waiting times are measured.
    #[schema(example = 5)]
    window_seconds: usize,
    /// Orders of this process; null during its first second.
    #[schema(required = true)]
    orders: Option<OrdersBody>,
    /// Admission in this process; null during its first second.
    #[schema(required = true)]
    admission: Option<AdmissionBody>,
    /// The queue between the API and all workers; null if it is unknown, because Redis does not answer or no worker has
    /// run yet.
    #[schema(required = true)]
    queue: Option<QueueBody>,
    /// Unfinished orders; null if the database does not answer.
    #[schema(required = true)]
    backlog: Option<BacklogBody>,
}

/// A process of the API.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ConsoleReplica)]
struct ReplicaBody {
    /// The host name and the process id.
    #[schema(example = "holdfast-api-7d9c5 (process 1)")]
    name: String,
    /// The version of the program.
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// Whether the process is ready for requests.
    ready: bool,
    /// The time at which the process started.
    #[schema(value_type = String, format = DateTime)]
    started_at: ShownTime,
}

/// Orders of one process.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = OrderRates)]
struct OrdersBody {
    /// Orders accepted per second.
    #[schema(example = 412.5)]
    accepted_per_second: f64,
    /// Orders refused per second.
    #[schema(example = 12.2)]
    refused_per_second: f64,
    /// Orders refused in the last five minutes by reason, as in the metric `holdfast_orders_refused_total`. Reasons that
    /// did not occur are absent.
    #[schema(example = json!({"not_enough": 1200, "over_limit": 7}))]
    refused: BTreeMap<&'static str, u64>,
}

/// Admission of requests in one process.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AdmissionStats)]
struct AdmissionBody {
    /// Requests that wait in lanes.
    #[schema(example = 3)]
    waiting: i64,
    /// Locked rows for which requests wait separately.
    #[schema(example = 0)]
    locked_rows: i64,
    /// Waiting time in a lane, in milliseconds.
    lane_wait_ms: QuantilesBody,
    /// Time that the shared lane needed to get its row locks, in milliseconds.
    lock_wait_ms: QuantilesBody,
    /// Waiting time for rows that other sessions had locked, in milliseconds.
    locked_row_wait_ms: QuantilesBody,
    /// Time of a commit, in milliseconds.
    commit_ms: QuantilesBody,
    /// Average number of requests in a batch; null if there was no batch.
    #[schema(required = true, example = 31.5)]
    batch_size: Option<f64>,
}

/// The 50th and 99th percentile; null if there were no measurements.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Quantiles)]
struct QuantilesBody {
    /// The 50th percentile.
    #[schema(required = true, example = 0.8)]
    p50: Option<f64>,
    /// The 99th percentile.
    #[schema(required = true, example = 3.1)]
    p99: Option<f64>,
}

/// The queue between the API and all workers.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = QueueStats)]
struct QueueBody {
    /// Orders that have not been delivered to a worker.
    #[schema(example = 17)]
    waiting: u64,
    /// Orders that have been delivered to a worker and are not finished.
    #[schema(example = 8)]
    in_flight: u64,
    /// Orders that wait for their next attempt.
    #[schema(example = 0)]
    later: u64,
    /// The age of the oldest order that has not been delivered, in seconds; null if there is none.
    #[schema(required = true, example = 0.4)]
    oldest_seconds: Option<f64>,
    /// The number of workers that read from the queue in the last `workers_seen_within_seconds` seconds.
    #[schema(example = 2)]
    workers: u64,
    /// The number of seconds for which a stopped worker is still counted.
    #[schema(example = 30)]
    workers_seen_within_seconds: u64,
}

/// Unfinished orders.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Backlog)]
struct BacklogBody {
    /// Orders that are neither completed nor failed nor cancelled.
    #[schema(example = 25)]
    unfinished: u64,
    /// Dead letters: orders that failed and wait for an operator.
    #[schema(example = 1)]
    dead_letters: u32,
    /// Both counts stop at this number.
    #[schema(example = 10_000)]
    counted_up_to: u32,
}

impl StatsBody {
    pub(super) fn new(
        replica: &ConsoleReplica,
        readiness: &Readiness,
        history: &ConsoleHistory,
        system: &System,
    ) -> Self {
        let reasons = Refusal::REASONS;
        let orders = history.rates().map(|(accepted, refused)| OrdersBody {
            accepted_per_second: rounded(accepted),
            refused_per_second: rounded(refused),
            refused: history
                .refused()
                .into_iter()
                .map(|(reason, count)| (reasons[reason], count))
                .collect(),
        });
        Self {
            at: Timestamp::now().into(),
            replica: ReplicaBody {
                name: replica.name.clone(),
                version: env!("CARGO_PKG_VERSION"),
                ready: readiness.get().is_ok(),
                started_at: replica.started_at.into(),
            },
            window_seconds: WINDOW,
            orders,
            admission: history.last().map(|point| AdmissionBody::from(point.admission)),
            queue: system.queue().map(QueueBody::from),
            backlog: system.backlog().map(BacklogBody::from),
        }
    }
}

impl From<AdmissionWaits> for AdmissionBody {
    fn from(waits: AdmissionWaits) -> Self {
        Self {
            waiting: waits.waiting,
            locked_rows: waits.locked_rows,
            lane_wait_ms: waits.lane.into(),
            lock_wait_ms: waits.lock.into(),
            locked_row_wait_ms: waits.locked_row.into(),
            commit_ms: waits.commit.into(),
            batch_size: waits.batch.map(rounded),
        }
    }
}

impl From<WaitQuantiles> for QuantilesBody {
    fn from(quantiles: WaitQuantiles) -> Self {
        Self { p50: quantiles.p50.map(rounded), p99: quantiles.p99.map(rounded) }
    }
}

impl From<QueueNumbers> for QueueBody {
    fn from(numbers: QueueNumbers) -> Self {
        Self {
            waiting: numbers.depth.waiting,
            in_flight: numbers.depth.in_flight,
            later: numbers.depth.later,
            oldest_seconds: numbers.oldest.map(|age| age.as_secs_f64()),
            workers: numbers.workers,
            workers_seen_within_seconds: WORKER_SEEN.as_secs(),
        }
    }
}

impl From<Backlog> for BacklogBody {
    fn from(backlog: Backlog) -> Self {
        Self {
            unfinished: backlog.unfinished,
            dead_letters: backlog.dead_letters,
            counted_up_to: COUNTED_MAX,
        }
    }
}

/// Rounds to thousandths, which is precise enough.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
