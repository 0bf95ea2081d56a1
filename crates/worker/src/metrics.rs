//! The metrics of a worker.

use holdfast_queue::Depth;
use holdfast_store::{Store, StoreMetrics, StoreSettings, fulfilment::AttemptResult};
use holdfast_telemetry::{
    Registry,
    metrics::{self, doubling},
};

use crate::{maintenance_task::MaintenanceTask, webhook};

holdfast_telemetry::metrics! {
    /// The metrics of a worker.
    pub struct WorkerMetrics {
        /// Orders that were claimed.
        pub claimed: IntCounter = "holdfast_fulfilment_claimed_total",
        /// Messages that were dropped because their order is finished or claimed by another worker.
        pub unclaimed: IntCounter = "holdfast_fulfilment_unclaimed_total",
        /// Messages that were taken over from a worker that did not acknowledge them.
        pub taken_over: IntCounter = "holdfast_queue_taken_over_total",
        /// Outcomes that were not written because the order had been claimed again.
        pub fenced: IntCounter = "holdfast_fulfilment_fenced_total",
        /// Orders that the sweep found and published again.
        pub swept: IntCounter = "holdfast_sweep_found_total",
        /// Time that one attempt to fulfil an order took.
        pub fulfilment: Histogram = "holdfast_fulfilment_seconds" [doubling::<16>(0.001)],
        /// Orders that were claimed after the lease of another worker had expired.
        pub claims_taken_over: IntCounter = "holdfast_fulfilment_claims_taken_over_total",
        /// Orders that are in flight in this worker: claimed, with an outcome that is not yet written.
        pub in_flight: IntGauge = "holdfast_in_flight_orders",
        /// The concurrency limit: the most orders that may be in flight in this worker.
        pub concurrency_limit: IntGauge = "holdfast_concurrency_limit_orders",
        /// Age of the oldest order that waits in the queue. NaN when unknown.
        pub oldest_age: Gauge = "holdfast_queue_oldest_age_seconds",
        /// Orders that failed for good and wait for an operator to replay or discard them, counted up to 10000. NaN
        /// when unknown.
        pub dead_letters: Gauge = "holdfast_dead_letters_orders",
        /// Unix time at which a maintenance task last succeeded; 0 if it has not yet.
        maintained_at: GaugeVec = "holdfast_maintenance_last_success_timestamp_seconds"
            { task: MaintenanceTask::ALL.map(MaintenanceTask::as_str) },
        /// Runs of a maintenance task that failed because PostgreSQL or Redis did not answer.
        maintenance_failures: IntCounterVec = "holdfast_maintenance_failures_total"
            { task: MaintenanceTask::ALL.map(MaintenanceTask::as_str) },
        /// Orders in the queue: not yet delivered (waiting), delivered but not acknowledged (in_flight), or set aside for a
        /// later attempt (later). NaN when unknown. Every worker shows the whole queue.
        "holdfast_queue_depth_orders" by state {
            waiting: Gauge = "waiting",
            delivered: Gauge = "in_flight",
            later: Gauge = "later",
        },
        /// Attempts to fulfil an order, by outcome.
        "holdfast_fulfilment_outcomes_total" by outcome {
            completed: IntCounter = "completed",
            failed: IntCounter = "failed",
            retried: IntCounter = "retried",
            postponed: IntCounter = "postponed",
            handed_back: IntCounter = "handed_back",
        },
    }
}

impl WorkerMetrics {
    /// Creates and registers the metrics. Values that have not been measured yet are NaN.
    ///
    /// # Errors
    /// A name is already registered.
    pub fn unmeasured(registry: &Registry) -> Result<Self, metrics::Error> {
        let metrics = Self::new(registry)?;
        metrics.unknown_depth();
        metrics.oldest_age.set(f64::NAN);
        metrics.dead_letters.set(f64::NAN);
        Ok(metrics)
    }

    /// Shows the queue's depth.
    #[allow(clippy::cast_precision_loss)] // a queue of 2^53 orders has other problems
    pub fn depth(&self, depth: Depth) {
        self.waiting.set(depth.waiting as f64);
        self.delivered.set(depth.in_flight as f64);
        self.later.set(depth.later as f64);
    }

    /// Shows that the queue's depth is unknown, rather than its last value.
    pub fn unknown_depth(&self) {
        for state in [&self.waiting, &self.delivered, &self.later] {
            state.set(f64::NAN);
        }
    }

    /// A maintenance task succeeded now.
    pub fn maintained(&self, task: MaintenanceTask) {
        let now = jiff::Timestamp::now().as_duration().as_secs_f64();
        self.maintained_at.with_label_values(&[task.as_str()]).set(now);
    }

    /// A maintenance task failed.
    pub fn not_maintained(&self, task: MaintenanceTask) {
        self.maintenance_failures.with_label_values(&[task.as_str()]).inc();
    }

    /// Counts an outcome.
    pub fn outcome(&self, verdict: &AttemptResult) {
        match verdict {
            AttemptResult::Completed => &self.completed,
            AttemptResult::Failed(_) => &self.failed,
            AttemptResult::Retry(..) => &self.retried,
            AttemptResult::Postponed(..) => &self.postponed,
            AttemptResult::HandedBack => &self.handed_back,
        }
        .inc();
    }
}

/// All metrics of a worker that fulfils by webhook. Connects to nothing. Must be called within a tokio runtime.
///
/// # Errors
/// A name is registered twice.
pub(crate) fn all() -> anyhow::Result<Registry> {
    let store = Store::connect(&StoreSettings::new("postgres://nobody@127.0.0.1:1/none")?);
    let registry = holdfast_telemetry::registry("worker", env!("CARGO_PKG_VERSION"))?;
    WorkerMetrics::unmeasured(&registry)?;
    StoreMetrics::register(&registry, &store)?;
    webhook::register_metrics(&registry)?;
    Ok(registry)
}
