//! What is to be seen of the operator itself.

use std::sync::Arc;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, core::Collector, exponential_buckets,
};

use crate::{
    queues::Source,
    sale::{
        resource::{FlashSale, Phase},
        timeline::{Timeline, TimelineError},
    },
};

/// The metrics of an operator. Cheap to clone.
#[derive(Clone)]
pub struct OperatorMetrics(Arc<Inner>);

/// The metrics one by one.
pub struct Inner {
    /// Answers of the external metrics API, by metric and HTTP status.
    pub requests: IntCounterVec,
    /// Seconds that an answer of the external metrics API took.
    pub seconds: Histogram,
    /// Numbers that were refused because they were not known.
    pub refused: IntCounterVec,
    /// Verdicts on whether a caller may have what they ask for.
    pub reviews: IntCounterVec,
    /// Whether this replica is the one that writes.
    pub leader: IntGauge,
    /// Steps of the loop that failed, and are tried again.
    pub sync_failures: IntCounterVec,
    /// Queues that are listed.
    pub queues: IntGauge,
    /// The Unix time at which the authority in use ends; NaN when unknown.
    pub ca_expiry: Gauge,
    /// The Unix time at which the certificate being served ends; NaN when unknown.
    pub certificate_expiry: Gauge,
    /// The Unix time at which a number was served last; 0 before the first.
    pub served_at: Gauge,
    depth: GaugeVec,
    sales: IntGaugeVec,
}

/// Every metric of an operator, as a page in Prometheus's text format; the reference
/// `docs/metrics.md` is made from it. Nobody is asked anything.
///
/// # Errors
/// A name is registered twice.
pub(crate) fn metrics_page() -> anyhow::Result<String> {
    let registry = holdfast_telemetry::registry("operator", env!("CARGO_PKG_VERSION"))?;
    let metrics = OperatorMetrics::new(&registry)?;
    // What has no label set before the first question.
    metrics.requests.with_label_values(&["holdfast_queue_depth", "200"]);
    metrics.depth.with_label_values(&["shop", "orders", "holdfast"]);
    Ok(holdfast_telemetry::metrics_page(&registry)?)
}

impl std::ops::Deref for OperatorMetrics {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl OperatorMetrics {
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
        let counters = |name: &str, help: &str, labels: &[&str]| {
            add(registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let expiry = add(
            registry,
            GaugeVec::new(
                Opts::new(
                    "holdfast_operator_certificate_expiry_seconds",
                    "The Unix time at which a certificate in use ends; NaN when unknown.",
                ),
                &["certificate"],
            ),
        )?;
        let inner = Inner {
            requests: counters(
                "holdfast_external_metrics_requests_total",
                "Answers of the external metrics API, by metric and HTTP status.",
                &["metric", "code"],
            )?,
            seconds: add(
                registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "holdfast_external_metrics_seconds",
                        "Time that an answer of the external metrics API took.",
                    )
                    .buckets(exponential_buckets(0.000_5, 2.0, 14)?),
                ),
            )?,
            refused: counters(
                "holdfast_external_metrics_refused_total",
                "Numbers that were refused because they were not known.",
                &["reason"],
            )?,
            reviews: counters(
                "holdfast_operator_access_reviews_total",
                "Verdicts on whether a caller may have what they ask for.",
                &["verdict"],
            )?,
            leader: add(
                registry,
                IntGauge::new(
                    "holdfast_operator_leader",
                    "Whether this replica is the one that writes: 1 or 0.",
                ),
            )?,
            sync_failures: counters(
                "holdfast_operator_sync_failures_total",
                "Steps of the loop that failed, and are tried again.",
                &["step"],
            )?,
            served_at: add(
                registry,
                Gauge::new(
                    "holdfast_external_metrics_last_served_timestamp_seconds",
                    "The Unix time at which the depth of a queue was served last; 0 before the first.",
                ),
            )?,
            queues: add(
                registry,
                IntGauge::new("holdfast_operator_queues", "Queues that are listed."),
            )?,
            ca_expiry: expiry.with_label_values(&["ca"]),
            certificate_expiry: expiry.with_label_values(&["serving"]),
            sales: add(registry, sales())?,
            depth: add(
                registry,
                GaugeVec::new(
                    Opts::new(
                        "holdfast_external_metrics_queue_depth_orders",
                        "The depth that was last served for a queue; NaN when it was refused.",
                    ),
                    &["namespace", "queue", "release"],
                ),
            )?,
        };
        inner.ca_expiry.set(f64::NAN);
        inner.certificate_expiry.set(f64::NAN);
        // A counter that is not there cannot be told from one that is 0.
        for reason in ["timeout", "redis", "no_group", "settings"] {
            inner.refused.with_label_values(&[reason]);
        }
        for step in ["files", "lease", "queues", "request_header", "sales", "secret", "apiservice"]
        {
            inner.sync_failures.with_label_values(&[step]);
        }
        // Discovery that is refused stops the deletion of namespaces: an alert watches these.
        for code in ["200", "401", "403", "429", "503"] {
            inner.requests.with_label_values(&["discovery", code]);
        }
        for verdict in ["allowed", "denied", "error", "cached"] {
            inner.reviews.with_label_values(&[verdict]);
        }
        Ok(Self(Arc::new(inner)))
    }

    /// The depth of a queue that was served; `None` if it was refused.
    pub fn depth(&self, source: &Source, depth: Option<f64>) {
        let labels = [source.namespace(), source.label("queue"), source.label("release")];
        if depth.is_some() {
            self.served_at.set(jiff::Timestamp::now().as_duration().as_secs_f64());
        }
        self.depth.with_label_values(&labels).set(depth.unwrap_or(f64::NAN));
    }

    /// Counts the sales by where they stand.
    pub fn sales(
        &self,
        sales: &[(&FlashSale, Result<Timeline, TimelineError>)],
        now: jiff::Timestamp,
    ) {
        for phase in Phase::ALL {
            let of_it = |timeline: &Result<Timeline, TimelineError>| {
                timeline.as_ref().map_or(Phase::Failed, |timeline| timeline.phase(now)) == phase
            };
            let count = sales.iter().filter(|(_, timeline)| of_it(timeline)).count();
            let gauge = self.sales.with_label_values(&[phase.label()]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Counts the queues that are listed; if the list has changed, forgets what was served for
    /// those of before.
    pub fn listed(&self, sources: &[Arc<Source>], changed: bool) {
        if changed {
            self.depth.reset();
        }
        self.queues.set(i64::try_from(sources.len()).unwrap_or(i64::MAX));
    }
}

fn sales() -> prometheus::Result<IntGaugeVec> {
    let sales = IntGaugeVec::new(
        Opts::new(
            "holdfast_operator_sales",
            "Flash sales that the replica that writes looks after, by phase.",
        ),
        &["phase"],
    )?;
    for phase in Phase::ALL {
        sales.with_label_values(&[phase.label()]);
    }
    Ok(sales)
}
