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

use opentelemetry::Context;
use opentelemetry_otlp::{
    ExporterBuildError, SpanExporter as OtlpExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData,
        SpanExporter, SpanProcessor,
    },
};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::settings::TraceSettings;

/// What became of spans, as metrics.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    all: IntCounterVec,
    sent: IntCounter,
    queue_full: IntCounter,
    not_taken: IntCounter,
}

impl Counts {
    /// Those of this process.
    pub fn get() -> prometheus::Result<&'static Self> {
        static COUNTS: OnceLock<Counts> = OnceLock::new();
        if let Some(counts) = COUNTS.get() {
            return Ok(counts);
        }
        let all = IntCounterVec::new(
            Opts::new(
                "holdfast_trace_spans_total",
                "Spans of traces: sent to the collector, or dropped because the queue was full or \
                 the collector did not take them.",
            ),
            &["outcome"],
        )?;
        let [sent, queue_full, not_taken] =
            ["sent", "queue_full", "not_taken"].map(|outcome| all.with_label_values(&[outcome]));
        Ok(COUNTS.get_or_init(|| Self { all, sent, queue_full, not_taken }))
    }

    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.all.clone()))
    }
}

/// Sets up the way of spans to the collector.
pub(crate) fn provider(
    service: &'static str,
    endpoint: String,
    settings: &TraceSettings,
    counts: &Counts,
) -> Result<SdkTracerProvider, ExporterBuildError> {
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
    counts: Counts,
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
