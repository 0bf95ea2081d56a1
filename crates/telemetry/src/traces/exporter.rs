//! The bounded queue of spans, and the thread that sends them.
//!
//! The SDK's batch processor has both, but does not report how many spans it drops. So a separate count guards its queue and
//! lets in only as many spans as fit.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::settings::TraceSettings;
use crate::metrics::{Error, IntCounter, Registry};
use opentelemetry::{Context, Key};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter as OtlpExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, OTEL_BSP_SCHEDULE_DELAY, Sampler,
        SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor,
    },
};

/// How often spans are sent by default. The SDK's 5 s would delay traces too much.
const SCHEDULE_DELAY: Duration = Duration::from_secs(1);

crate::metrics! {
    /// The outcomes of spans.
    pub(crate) struct TraceMetrics {
        /// Spans of traces: sent to the collector, dropped because the queue was full, or dropped because the collector
        /// did not accept them.
        "holdfast_trace_spans_total" by outcome {
            sent: IntCounter = "sent",
            queue_full: IntCounter = "queue_full",
            not_taken: IntCounter = "not_taken",
        },
    }
}

/// The metrics of this process's traces, which are counted from before there is a registry to show them.
static METRICS: OnceLock<(TraceMetrics, Registry)> = OnceLock::new();

/// The metrics, and the registry that shows them.
pub(crate) fn metrics() -> Result<&'static (TraceMetrics, Registry), Error> {
    if let Some(metrics) = METRICS.get() {
        return Ok(metrics);
    }
    let registry = Registry::default();
    let metrics = TraceMetrics::new(&registry)?;
    Ok(METRICS.get_or_init(|| (metrics, registry)))
}

/// Sets up the export of spans to the collector. The SDK reads the variables that are not in `settings`.
pub(crate) fn provider(
    service: &'static str,
    endpoint: String,
    settings: &TraceSettings,
    metrics: &TraceMetrics,
) -> Result<SdkTracerProvider, ExporterBuildError> {
    let otlp = OtlpExporter::builder().with_http().with_endpoint(endpoint).build()?;
    let waiting = Arc::new(AtomicUsize::new(0));
    let exporter = CountingExporter {
        inner: otlp,
        waiting: Arc::clone(&waiting),
        metrics: metrics.clone(),
        failing: AtomicBool::new(false),
    };
    let mut batches = BatchConfigBuilder::default().with_max_queue_size(settings.max_queue_size);
    if std::env::var_os(OTEL_BSP_SCHEDULE_DELAY).is_none_or(|delay| delay.is_empty()) {
        batches = batches.with_scheduled_delay(SCHEDULE_DELAY);
    }
    let processor = BoundedProcessor {
        inner: BatchSpanProcessor::new(exporter, batches.build()),
        waiting,
        max: settings.max_queue_size,
        queue_full: metrics.queue_full.clone(),
    };
    Ok(SdkTracerProvider::builder()
        .with_sampler(Sampler::AlwaysOn)
        .with_span_processor(processor)
        .with_resource(resource(service))
        .build())
}

/// What the SDK reads about this process from the environment; without a name there, it is called `service`.
fn resource(service: &'static str) -> Resource {
    let name = Resource::builder().build().get(&Key::from_static_str("service.name"));
    let named = name.is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    if named {
        Resource::builder().build()
    } else {
        Resource::builder().with_service_name(service).build()
    }
}

/// Lets only as many spans into the queue as fit, and counts the others.
#[derive(Debug)]
struct BoundedProcessor {
    inner: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
    max: usize,
    queue_full: IntCounter,
}

impl SpanProcessor for BoundedProcessor {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < self.max {
            self.inner.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.queue_full.inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, limit: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(limit)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Sends batches, and counts their spans by outcome.
#[derive(Debug)]
struct CountingExporter<E> {
    inner: E,
    waiting: Arc<AtomicUsize>,
    metrics: TraceMetrics,
    failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for CountingExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        let sent = self.inner.export(batch).await;
        let outcome = if sent.is_ok() { &self.metrics.sent } else { &self.metrics.not_taken };
        outcome.inc_by(spans as u64);
        // Logged once, because a collector may be down for days.
        match (&sent, self.failing.swap(sent.is_err(), Ordering::Relaxed)) {
            (Err(error), false) => {
                tracing::warn!(%error, "the collector does not accept traces; they are dropped until it does");
            }
            (Ok(()), true) => tracing::info!("the collector accepts traces again"),
            _ => {}
        }
        sent
    }

    fn shutdown_with_timeout(&self, limit: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(limit)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
