//! The operator's own metrics.

use std::sync::Arc;

use holdfast_telemetry::{
    Registry,
    metrics::{self, doubling},
};

use crate::{queues::ServedQueue, sale::resource::Phase};

holdfast_telemetry::metrics! {
    /// The metrics of an operator. Cheap to clone.
    pub struct OperatorMetrics {
        /// Requests of the external metrics API, by metric and HTTP status. The metric is discovery, a known name, or
        /// unknown.
        pub requests: IntCounterVec = "holdfast_external_metrics_requests_total" { metric, code },
        /// Time of an answer of the external metrics API.
        pub seconds: Histogram = "holdfast_external_metrics_seconds" [doubling::<14>(0.000_5)],
        /// Requests that were refused because the number was unknown.
        pub refused: IntCounterVec = "holdfast_external_metrics_refused_total"
            { reason: ["timeout", "redis", "no_group", "incomplete", "settings"] },
        /// Checks whether a caller may read a metric, by the decision of the API server or of the cache.
        pub reviews: IntCounterVec = "holdfast_operator_access_reviews_total"
            { verdict: ["allowed", "denied", "error", "cached"] },
        /// 1 if this replica is the leader, otherwise 0.
        pub leader: IntGauge = "holdfast_operator_leader",
        /// Steps of the control loop that failed and are tried again.
        pub sync_failures: IntCounterVec = "holdfast_operator_sync_failures_total" { step: STEPS },
        /// Queues that are configured.
        pub queues: IntGauge = "holdfast_operator_queues",
        /// Unix time at which a certificate in use expires. NaN when unknown.
        "holdfast_operator_certificate_expiry_seconds" by certificate {
            pub ca_expiry: Gauge = "ca",
            pub certificate_expiry: Gauge = "serving",
        },
        /// Unix time at which the depth of a queue was last served; 0 if it has not been yet.
        pub served_at: Gauge = "holdfast_external_metrics_last_served_timestamp_seconds",
        /// The depth of a queue that was last served; NaN if it was refused.
        depth: GaugeVec = "holdfast_external_metrics_queue_depth_orders" { namespace, queue, release },
        /// Flash sales that the leader manages, by the phase that is shown.
        pub sales: IntGaugeVec = "holdfast_operator_sales" { phase: Phase::ALL.map(Phase::as_str) },
    }
}

/// The values of the label `step`.
const STEPS: [&str; 11] = [
    "apiservice",
    "autoscalers",
    "database",
    "definition",
    "events",
    "files",
    "lease",
    "queues",
    "request_header",
    "sales",
    "secret",
];

/// All metrics of an operator, with a series for each label. Connects to no server.
///
/// # Errors
/// A name is registered twice.
pub(crate) fn all() -> anyhow::Result<Registry> {
    let registry = holdfast_telemetry::registry("operator", env!("CARGO_PKG_VERSION"))?;
    let metrics = OperatorMetrics::unmeasured(&registry)?;
    // They have no series before the first request.
    metrics.requests.with_label_values(&["holdfast_queue_depth", "200"]);
    metrics.depth.with_label_values(&["shop", "orders", "holdfast"]);
    Ok(registry)
}

impl OperatorMetrics {
    /// Creates and registers the metrics. Values that have not been measured yet are NaN.
    ///
    /// # Errors
    /// A name is already registered.
    pub fn unmeasured(registry: &Registry) -> Result<Self, metrics::Error> {
        let metrics = Self::new(registry)?;
        metrics.ca_expiry.set(f64::NAN);
        metrics.certificate_expiry.set(f64::NAN);
        // Kubernetes deletes no namespaces while discovery is refused. An alert uses these series.
        for code in ["200", "401", "403", "429", "503"] {
            metrics.requests.with_label_values(&["discovery", code]);
        }
        Ok(metrics)
    }

    /// The depth of a queue that was served; `None` if it was refused.
    pub fn depth(&self, source: &ServedQueue, depth: Option<f64>) {
        let labels = [source.namespace(), source.label("queue"), source.label("release")];
        if depth.is_some() {
            self.served_at.set(jiff::Timestamp::now().as_duration().as_secs_f64());
        }
        self.depth.with_label_values(&labels).set(depth.unwrap_or(f64::NAN));
    }

    /// Counts the listed queues. If the list has changed, removes the series of former queues.
    pub fn listed(&self, sources: &[Arc<ServedQueue>], changed: bool) {
        if changed {
            self.depth.reset();
        }
        self.queues.set(i64::try_from(sources.len()).unwrap_or(i64::MAX));
    }
}
