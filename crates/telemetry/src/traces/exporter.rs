//! The bounded queue of spans, and the thread that sends them.
//!
//! The SDK's batch processor has both, but does not tell how much it drops. So its queue is
//! guarded by a count of our own, which lets in no more than fit.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::settings::TraceSettings;
use crate::init::InitError;
use crate::metrics::{Error, IntCounter, Registry};
use opentelemetry::Context;
use opentelemetry_otlp::{
    SpanExporter as OtlpExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData,
        SpanExporter, SpanProcessor,
    },
};

crate::metrics! {
    /// What became of spans.
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

fn counted() -> Result<&'static (TraceMetrics, Registry), Error> {
    if let Some(metrics) = METRICS.get() {
        return Ok(metrics);
    }
    let registry = Registry::default();
    let metrics = TraceMetrics::new(&registry)?;
    Ok(METRICS.get_or_init(|| (metrics, registry)))
}

/// What shows the metrics of this process's traces.
pub(crate) fn metrics() -> Result<&'static Registry, Error> {
    counted().map(|(_, registry)| registry)
}

/// Sets up the way of spans to the collector.
pub(crate) fn provider(
    service: &'static str,
    endpoint: String,
    settings: &TraceSettings,
) -> Result<SdkTracerProvider, InitError> {
    let (counts, _) = counted()?;
    let otlp = OtlpExporter::builder()
        .with_http()
        .with_endpoint(endpoint)
        .with_timeout(settings.export_timeout())
        .with_headers(settings.headers())
        .build()?;
    let waiting = Arc::new(AtomicUsize::new(0));
    let exporter = Counted {
        inner: otlp,
        waiting: Arc::clone(&waiting),
        counts: counts.clone(),
        failing: AtomicBool::new(false),
    };
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(settings.max_queue_size)
        .with_max_export_batch_size(settings.max_export_batch_size.min(settings.max_queue_size))
        .with_scheduled_delay(settings.schedule_delay)
        .build();
    let processor = Bounded {
        inner: BatchSpanProcessor::new(exporter, batches),
        waiting,
        max: settings.max_queue_size,
        queue_full: counts.queue_full.clone(),
    };
    let resource = Resource::builder()
        .with_service_name(settings.service_name(service))
        .with_attributes(settings.resource_attributes());
    Ok(SdkTracerProvider::builder()
        .with_sampler(Sampler::AlwaysOn)
        .with_span_processor(processor)
        .with_resource(resource.build())
        .build())
}

/// Lets no more spans into the queue than fit, and counts the others.
#[derive(Debug)]
struct Bounded {
    inner: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
    max: usize,
    queue_full: IntCounter,
}

impl SpanProcessor for Bounded {
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

/// Sends batches, and counts what became of them.
#[derive(Debug)]
struct Counted<E> {
    inner: E,
    waiting: Arc<AtomicUsize>,
    counts: TraceMetrics,
    failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        let sent = self.inner.export(batch).await;
        let outcome = if sent.is_ok() { &self.counts.sent } else { &self.counts.not_taken };
        outcome.inc_by(spans as u64);
        // Once each time: a collector may be away for days.
        match (&sent, self.failing.swap(sent.is_err(), Ordering::Relaxed)) {
            (Err(error), false) => {
                tracing::warn!(%error, "the collector takes no traces; they are dropped until it does");
            }
            (Ok(()), true) => tracing::info!("the collector takes traces again"),
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
