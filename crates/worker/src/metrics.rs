//! What an operator sees of a worker.

use holdfast_store::fulfilment::Verdict;
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry, core::Collector,
    exponential_buckets,
};

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
    /// Orders in the queue: waiting, in hand and set aside. NaN when unknown.
    pub depth: Gauge,
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
            depth: add(
                registry,
                Gauge::new(
                    "holdfast_queue_depth_orders",
                    "Orders in the queue: waiting, in hand and set aside. NaN when unknown.",
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
        metrics.depth.set(f64::NAN);
        Ok(metrics)
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
