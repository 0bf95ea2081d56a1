//! What an operator sees of admission. The comment on a metric is its help text.

use std::time::Duration;

use holdfast_domain::{Demand, StockChange};
use holdfast_store::LockMode;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, core::Collector, exponential_buckets,
};

use super::{Accepted, Refusal};

/// The metrics of admission.
pub struct AdmissionMetrics {
    /// Orders that were accepted, that is, committed.
    pub accepted: IntCounter,
    /// Orders that were refused, by reason.
    refused: IntCounterVec,
    /// Requests that were repeats of one that had been granted, known by their key.
    pub repeated: IntCounter,
    /// Orders that were cancelled and whose units are back in stock.
    pub cancelled: IntCounter,
    /// Holds that were accepted.
    pub holds: IntCounter,
    /// Holds that their customer let go of.
    pub holds_released: IntCounter,
    /// Holds whose time was over and whose units are back in stock.
    pub holds_expired: IntCounter,
    /// Orders whose caller had gone before their batch began.
    pub abandoned: IntCounter,
    /// Orders that wait in a lane for their batch.
    pub lane_depth: IntGauge,
    /// Rows of products, orders, holds and keys for which requests wait apart, because somebody else holds them.
    pub own_lanes: IntGauge,
    /// Seconds that an order waited in its lane.
    pub lane_wait: Histogram,
    /// Orders in a batch.
    pub batch_size: Histogram,
    /// Seconds that a batch of the shared lane waited for its row locks.
    lock_wait_shared: Histogram,
    /// Seconds that a batch of a product's own lane waited for its row locks.
    lock_wait_own: Histogram,
    /// Seconds that a batch held its row locks.
    pub lock_held: Histogram,
    /// Seconds that a commit took.
    pub commit: Histogram,
    /// Orders whose id was published to the workers' queue.
    pub published: IntCounter,
    /// Orders whose id could not be published, and which the sweeper will.
    pub unpublished: IntCounter,
    /// Stock left of the product of which the last batch took the most units; NaN before the first.
    hot_product_stock: Gauge,
}

impl AdmissionMetrics {
    /// Makes and registers the metrics.
    ///
    /// # Errors
    /// A name is registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        // 50 µs to about 13 s, doubling.
        let waits = exponential_buckets(0.000_05, 2.0, 19)?;
        let seconds = |name: &str, help: &str| {
            add(
                registry,
                Histogram::with_opts(HistogramOpts::new(name, help).buckets(waits.clone())),
            )
        };
        let counter = |name: &str, help: &str| add(registry, IntCounter::new(name, help));
        let gauge = |name: &str, help: &str| add(registry, IntGauge::new(name, help));
        let lock_wait = lock_waits(registry, waits.clone())?;
        let metrics = Self {
            accepted: counter(
                "holdfast_orders_accepted_total",
                "Orders that were accepted, that is, committed.",
            )?,
            refused: add(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "holdfast_orders_refused_total",
                        "Orders that were refused, by reason.",
                    ),
                    &["reason"],
                ),
            )?,
            repeated: counter(
                "holdfast_requests_repeated_total",
                "Requests that were repeats of one that had been granted, known by their key.",
            )?,
            cancelled: counter(
                "holdfast_orders_cancelled_total",
                "Orders that were cancelled and whose units are back in stock.",
            )?,
            holds: counter("holdfast_holds_accepted_total", "Holds that were accepted.")?,
            holds_released: counter(
                "holdfast_holds_released_total",
                "Holds that their customer let go of.",
            )?,
            holds_expired: counter(
                "holdfast_holds_expired_total",
                "Holds whose time was over and whose units are back in stock.",
            )?,
            abandoned: counter(
                "holdfast_orders_abandoned_total",
                "Orders whose caller had gone before their batch began.",
            )?,
            lane_depth: gauge(
                "holdfast_lane_depth_orders",
                "Orders that wait in a lane for their batch.",
            )?,
            own_lanes: gauge(
                "holdfast_own_lanes",
                "Rows of products, orders, holds and keys for which requests wait apart, because somebody else holds them.",
            )?,
            lane_wait: seconds(
                "holdfast_lane_wait_seconds",
                "Time that an order waited in its lane.",
            )?,
            batch_size: add(
                registry,
                Histogram::with_opts(
                    HistogramOpts::new("holdfast_batch_size_orders", "Orders in a batch.")
                        .buckets(exponential_buckets(1.0, 2.0, 12)?),
                ),
            )?,
            lock_wait_shared: lock_wait.with_label_values(&["shared"]),
            lock_wait_own: lock_wait.with_label_values(&["own"]),
            lock_held: seconds(
                "holdfast_lock_held_seconds",
                "Time that a batch held its row locks.",
            )?,
            commit: seconds("holdfast_commit_seconds", "Time that a commit took.")?,
            published: counter(
                "holdfast_orders_published_total",
                "Orders whose id was published to the workers' queue.",
            )?,
            unpublished: counter(
                "holdfast_orders_unpublished_total",
                "Orders whose id could not be published; the sweeper will.",
            )?,
            hot_product_stock: add(
                registry,
                Gauge::new(
                    "holdfast_hot_product_stock_units",
                    "Stock left of the product of which the last batch took the most units; NaN before the first.",
                ),
            )?,
        };
        // A 0 would say that it is sold out.
        metrics.hot_product_stock.set(f64::NAN);
        // A counter that is not there cannot be told from one that is 0.
        for reason in Refusal::REASONS {
            metrics.refused.with_label_values(&[reason]);
        }
        Ok(metrics)
    }

    /// Counts what a demand has led to.
    pub(super) fn accepted(&self, demand: &Demand, accepted: &Accepted) {
        match (demand, accepted) {
            (_, Accepted::Repeat { .. }) => self.repeated.inc(),
            (Demand::Order(_), _) => self.accepted.inc(),
            (Demand::Hold { .. }, _) => self.holds.inc(),
            (Demand::Cancel { .. }, _) => self.cancelled.inc(),
            (Demand::Release { .. }, _) => self.holds_released.inc(),
            (Demand::Expire { .. }, _) => {}
        }
    }

    /// Shows what is left of the product of which a batch took the most units, if it took any.
    pub(super) fn hottest(&self, changes: &[StockChange]) {
        let taken = changes.iter().filter(|change| change.delta < 0);
        if let Some(hottest) = taken.min_by_key(|change| change.delta) {
            #[allow(clippy::cast_precision_loss)] // stock is far below 2^53
            self.hot_product_stock.set(hottest.left.units() as f64);
        }
    }

    /// Counts a wait for row locks.
    pub(super) fn lock_wait(&self, mode: LockMode, waited: Duration) {
        let histogram = match mode {
            LockMode::Skip => &self.lock_wait_shared,
            LockMode::WaitFor(_) | LockMode::Wait => &self.lock_wait_own,
        };
        histogram.observe(waited.as_secs_f64());
    }

    /// Counts a wait for a row that others kept locked.
    pub(super) fn row_locked(&self, waited: Duration) {
        self.lock_wait_own.observe(waited.as_secs_f64());
    }

    /// Counts a refusal.
    pub(super) fn refused(&self, refusal: Refusal) {
        debug_assert!(Refusal::REASONS.contains(&refusal.reason()), "{refusal:?} is not listed");
        self.refused.with_label_values(&[refusal.reason()]).inc();
    }
}

fn add<M: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<M>,
) -> prometheus::Result<M> {
    let metric = metric?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn lock_waits(registry: &Registry, buckets: Vec<f64>) -> prometheus::Result<HistogramVec> {
    let options = HistogramOpts::new(
        "holdfast_lock_wait_seconds",
        "Time that a batch waited for its row locks, the round trip included, by lane: the shared one skips what is locked, a contended product's own waits for it. Also, as own, the time that a row was locked or a request waited for it in vain.",
    );
    add(registry, HistogramVec::new(options.buckets(buckets), &["lane"]))
}
