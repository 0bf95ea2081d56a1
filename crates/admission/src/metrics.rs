//! The metrics of admission. The comment on a metric is its help text.

use std::time::Duration;

use holdfast_domain::ProductChange;
use holdfast_store::LockMode;
use holdfast_telemetry::{
    Registry,
    metrics::{self, Buckets, doubling},
};

use crate::decision::Refusal;

/// From 50 µs to 13 s.
const SECONDS: [f64; 19] = doubling(0.000_05);

holdfast_telemetry::metrics! {
    /// The metrics of admission.
    pub struct AdmissionMetrics {
        /// Orders that were accepted, that is, committed.
        pub accepted: IntCounter = "holdfast_orders_accepted_total",
        /// Orders that this process has answered with 201 and that a failover or a restore of the database has lost. The log
        /// has their ids.
        pub lost: IntCounter = "holdfast_orders_lost_total",
        /// Orders that `holdfast_orders_lost_total` counts and that the database has again, because a former primary became the
        /// primary again. The log has their ids.
        pub found: IntCounter = "holdfast_orders_found_total",
        /// Orders, holds, cancellations and releases that were refused.
        refused: IntCounterVec = "holdfast_orders_refused_total" { reason: Refusal::REASONS },
        /// Requests that repeated a granted one with the same Idempotency-Key.
        pub repeated: IntCounter = "holdfast_requests_repeated_total",
        /// Orders that were cancelled and whose units returned to stock.
        pub cancelled: IntCounter = "holdfast_orders_cancelled_total",
        /// Holds that were accepted.
        pub holds: IntCounter = "holdfast_holds_accepted_total",
        /// Holds that their customer released.
        pub holds_released: IntCounter = "holdfast_holds_released_total",
        /// Holds that expired and whose units returned to stock.
        pub holds_expired: IntCounter = "holdfast_holds_expired_total",
        /// Requests whose client disconnected before their batch began.
        pub abandoned: IntCounter = "holdfast_orders_abandoned_total",
        /// Requests that wait in a lane for their batch.
        pub lane_depth: IntGauge = "holdfast_lane_depth_orders",
        /// Rows of products, orders, holds and keys for which requests wait separately because another session has locked
        /// them.
        pub own_lanes: IntGauge = "holdfast_own_lanes",
        /// Time that a request waited in its lane.
        pub lane_wait: Histogram = "holdfast_lane_wait_seconds" [SECONDS],
        /// Requests in a batch.
        pub batch_size: Histogram = "holdfast_batch_size_orders" [doubling::<12>(1.0)],
        /// Time that a batch waited for its row locks, including the round trip. The shared lane skips locked rows; the
        /// own lane of a contended product waits for them. The label own also covers the time for which a row stayed
        /// locked, and waits that timed out.
        "holdfast_lock_wait_seconds" by lane {
            lock_wait_shared: Histogram = "shared",
            lock_wait_own: Histogram = "own",
        } [SECONDS],
        /// Time for which a batch kept its rows locked.
        pub lock_held: Histogram = "holdfast_lock_held_seconds" [SECONDS],
        /// Time of a commit.
        pub commit: Histogram = "holdfast_commit_seconds" [SECONDS],
        /// Orders that were published to the workers' queue.
        pub published: IntCounter = "holdfast_orders_published_total",
        /// Orders that could not be published. A worker's sweep publishes them later.
        pub unpublished: IntCounter = "holdfast_orders_unpublished_total",
        /// Units left of the product that had the most units taken by the last batch; NaN before the first batch.
        hot_product_stock: Gauge = "holdfast_hot_product_stock_units",
    }
}

/// The counts of admission since the start of the process, and the requests that are waiting.
#[derive(Clone, Debug)]
pub struct AdmissionCounts {
    /// Orders that were accepted.
    pub accepted: u64,
    /// Orders, holds, cancellations and releases that were refused, by reason.
    pub refused: [(&'static str, u64); Refusal::REASONS.len()],
    /// Requests that wait in a lane.
    pub waiting: i64,
    /// Locked rows for which requests wait separately.
    pub locked_rows: i64,
    /// Time in a lane, in seconds.
    pub lane_wait: Buckets,
    /// Time until the shared lane had its row locks, in seconds.
    pub lock_wait_shared: Buckets,
    /// Time for which requests waited for locked rows, in seconds.
    pub lock_wait_own: Buckets,
    /// Time of a commit, in seconds.
    pub commit: Buckets,
    /// Requests in a batch.
    pub batch_size: Buckets,
}

impl AdmissionMetrics {
    /// Creates and registers the metrics.
    ///
    /// # Errors
    /// A name is already registered.
    pub fn unmeasured(registry: &Registry) -> Result<Self, metrics::Error> {
        let metrics = Self::new(registry)?;
        // 0 would mean that it is sold out.
        metrics.hot_product_stock.set(f64::NAN);
        Ok(metrics)
    }

    /// The current counts.
    pub fn counts(&self) -> AdmissionCounts {
        AdmissionCounts {
            accepted: self.accepted.get(),
            refused: Refusal::REASONS
                .map(|reason| (reason, self.refused.with_label_values(&[reason]).get())),
            waiting: self.lane_depth.get(),
            locked_rows: self.own_lanes.get(),
            lane_wait: Buckets::of(&self.lane_wait),
            lock_wait_shared: Buckets::of(&self.lock_wait_shared),
            lock_wait_own: Buckets::of(&self.lock_wait_own),
            commit: Buckets::of(&self.commit),
            batch_size: Buckets::of(&self.batch_size),
        }
    }

    /// Records the remaining stock of the product that sold the most units in a batch, if any were sold.
    pub(crate) fn hottest(&self, changes: &[ProductChange]) {
        let taken = changes.iter().filter(|change| change.delta < 0);
        if let Some(hottest) = taken.min_by_key(|change| change.delta) {
            #[allow(clippy::cast_precision_loss)] // stock is far below 2^53
            self.hot_product_stock.set(hottest.left.units() as f64);
        }
    }

    /// Counts a wait for row locks.
    pub(crate) fn lock_wait(&self, mode: LockMode, waited: Duration) {
        let histogram = match mode {
            LockMode::Skip => &self.lock_wait_shared,
            LockMode::WaitFor(_) | LockMode::Wait => &self.lock_wait_own,
        };
        histogram.observe(waited.as_secs_f64());
    }

    /// Counts a wait for a row that another transaction had locked.
    pub(crate) fn row_locked(&self, waited: Duration) {
        self.lock_wait_own.observe(waited.as_secs_f64());
    }

    /// Counts a refusal.
    pub(crate) fn refused(&self, refusal: Refusal) {
        debug_assert!(Refusal::REASONS.contains(&refusal.reason()), "{refusal:?} is not listed");
        self.refused.with_label_values(&[refusal.reason()]).inc();
    }
}
