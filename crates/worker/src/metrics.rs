//! What an operator sees of a worker.

use holdfast_queue::Depth;
use holdfast_store::fulfilment::Verdict;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    core::Collector, exponential_buckets,
};

use crate::maintenance::Task;

/// The metrics of a worker.
pub struct WorkerMetrics {
    /// Orders that were claimed.
    pub claimed: IntCounter,
    /// Messages whose order was done or in other hands.
    pub unclaimed: IntCounter,
    /// Messages that were taken over from a worker that did not acknowledge them.
    pub taken_over: IntCounter,
    /// Outcomes that were not written, because a later claim had taken over.
    pub fenced: IntCounter,
    /// Orders that the sweep found and published again.
    pub swept: IntCounter,
    /// Seconds that fulfilling one order took.
    pub fulfilment: Histogram,
    /// Orders that were claimed after the lease of another worker had run out.
    pub claims_taken_over: IntCounter,
    /// Orders that this worker has in hand.
    pub in_hand: IntGauge,
    /// The most orders that this worker takes in hand.
    pub hands: IntGauge,
    /// Seconds that the order that will be delivered next has waited. NaN when unknown.
    pub oldest_age: Gauge,
    /// Orders that failed for good and that nobody has replayed or discarded. NaN when unknown.
    pub dead_letters: Gauge,
    maintained_at: GaugeVec,
    maintenance_failures: IntCounterVec,
    depth: GaugeVec,
    outcomes: IntCounterVec,
}

impl WorkerMetrics {
    /// Makes and registers the metrics.
    ///
    /// # Errors
    /// A name is registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        fn add<M: Collector + Clone + 'static>(
            registry: &Registry,
            metric: prometheus::Result<M>,
        ) -> prometheus::Result<M> {
            let metric = metric?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        }
        let counter = |name: &str, help: &str| add(registry, IntCounter::new(name, help));
        let gauge = |name: &str, help: &str| add(registry, Gauge::new(name, help));
        let whole = |name: &str, help: &str| add(registry, IntGauge::new(name, help));
        let metrics = Self {
            claimed: counter("holdfast_fulfilment_claimed_total", "Orders that were claimed.")?,
            unclaimed: counter(
                "holdfast_fulfilment_unclaimed_total",
                "Messages whose order was done or in other hands.",
            )?,
            taken_over: counter(
                "holdfast_queue_taken_over_total",
                "Messages that were taken over from a worker that did not acknowledge them.",
            )?,
            fenced: counter(
                "holdfast_fulfilment_fenced_total",
                "Outcomes that were not written, because a later claim had taken over.",
            )?,
            swept: counter(
                "holdfast_sweep_found_total",
                "Orders that the sweep found and published again.",
            )?,
            fulfilment: add(
                registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "holdfast_fulfilment_seconds",
                        "Time that fulfilling one order took.",
                    )
                    .buckets(exponential_buckets(0.001, 2.0, 16)?),
                ),
            )?,
            claims_taken_over: counter(
                "holdfast_fulfilment_claims_taken_over_total",
                "Orders that were claimed after the lease of another worker had run out.",
            )?,
            in_hand: whole("holdfast_in_hand_orders", "Orders that this worker has in hand.")?,
            hands: whole(
                "holdfast_hands_orders",
                "The most orders that this worker takes in hand.",
            )?,
            oldest_age: gauge(
                "holdfast_queue_oldest_age_seconds",
                "Time that the order that will be delivered next has waited. NaN when unknown.",
            )?,
            dead_letters: gauge(
                "holdfast_dead_letters_orders",
                "Orders that failed for good and wait for an operator, counted up to 10000. NaN when unknown.",
            )?,
            maintained_at: add(registry, maintained_at())?,
            maintenance_failures: add(registry, maintenance_failures())?,
            depth: add(
                registry,
                GaugeVec::new(
                    Opts::new(
                        "holdfast_queue_depth_orders",
                        "Orders in the queue: not yet delivered (waiting), delivered and not done (in_hand), set aside for a later try (later). NaN when unknown. Each worker shows the whole queue.",
                    ),
                    &["state"],
                ),
            )?,
            outcomes: add(
                registry,
                IntCounterVec::new(
                    Opts::new("holdfast_fulfilment_outcomes_total", "Outcomes of tries."),
                    &["outcome"],
                ),
            )?,
        };
        metrics.unknown_depth();
        metrics.oldest_age.set(f64::NAN);
        metrics.dead_letters.set(f64::NAN);
        for task in Task::ALL {
            metrics.maintained_at.with_label_values(&[task.label()]);
            metrics.maintenance_failures.with_label_values(&[task.label()]);
        }
        // A counter that is not there cannot be told from one that is 0.
        for outcome in ["completed", "failed", "retried", "postponed", "handed_back"] {
            metrics.outcomes.with_label_values(&[outcome]);
        }
        Ok(metrics)
    }

    /// Shows the queue's depth.
    pub fn depth(&self, depth: Depth) {
        let states =
            [("waiting", depth.waiting), ("in_hand", depth.in_hand), ("later", depth.later)];
        for (state, orders) in states {
            #[allow(clippy::cast_precision_loss)] // a queue of 2^53 orders has other problems
            self.depth.with_label_values(&[state]).set(orders as f64);
        }
    }

    /// Shows that the queue's depth is not known: never what it was before.
    pub fn unknown_depth(&self) {
        for state in ["waiting", "in_hand", "later"] {
            self.depth.with_label_values(&[state]).set(f64::NAN);
        }
    }

    /// A task of maintenance succeeded now.
    pub fn maintained(&self, task: Task) {
        let now = jiff::Timestamp::now().as_duration().as_secs_f64();
        self.maintained_at.with_label_values(&[task.label()]).set(now);
    }

    /// A task of maintenance failed.
    pub fn not_maintained(&self, task: Task) {
        self.maintenance_failures.with_label_values(&[task.label()]).inc();
    }

    /// Counts an outcome.
    pub fn outcome(&self, verdict: &Verdict) {
        let outcome = match verdict {
            Verdict::Completed => "completed",
            Verdict::Failed(_) => "failed",
            Verdict::Retry(..) => "retried",
            Verdict::Postponed(..) => "postponed",
            Verdict::HandedBack => "handed_back",
        };
        self.outcomes.with_label_values(&[outcome]).inc();
    }
}

fn maintained_at() -> prometheus::Result<GaugeVec> {
    GaugeVec::new(
        Opts::new(
            "holdfast_maintenance_last_success_timestamp_seconds",
            "The Unix time at which a task of maintenance succeeded last; 0 before the first time.",
        ),
        &["task"],
    )
}

fn maintenance_failures() -> prometheus::Result<IntCounterVec> {
    IntCounterVec::new(
        Opts::new(
            "holdfast_maintenance_failures_total",
            "Runs of a task of maintenance that failed, because PostgreSQL or Redis did not answer.",
        ),
        &["task"],
    )
}
