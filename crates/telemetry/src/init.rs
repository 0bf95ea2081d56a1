//! Logs and traces of a process.

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing_subscriber::{
    EnvFilter, Layer, filter::LevelFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::OtlpEndpoint;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    #[default]
    Json,
    /// Coloured text, for people.
    Pretty,
}

/// What a process logs, and where its traces go.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Logs and traces")]
pub struct TelemetrySettings {
    /// What is logged: error, warn, info, debug, trace, or directives such as
    /// `info,holdfast_api=debug`
    #[arg(long, env = "HOLDFAST_LOG", default_value = "info", value_parser = parse_filter)]
    pub log: String,

    /// How a log line looks
    #[arg(long, env = "HOLDFAST_LOG_FORMAT", value_enum, default_value = "json")]
    pub log_format: LogFormat,

    /// The OTLP/HTTP collector that traces go to, such as <http://otel-collector:4318>; empty means
    /// no traces. `OTEL_TRACES_SAMPLER`, `OTEL_BSP_*`, `OTEL_RESOURCE_ATTRIBUTES`,
    /// `OTEL_EXPORTER_OTLP_HEADERS` and `OTEL_EXPORTER_OTLP_TIMEOUT` have their standard meaning
    #[arg(
        long = "otlp-endpoint",
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        default_value = "",
        hide_default_value = true
    )]
    pub otlp_endpoint: OtlpEndpoint,
}

fn parse_filter(text: &str) -> Result<String, &'static str> {
    EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|_| "must be a level (error, warn, info, debug, trace) or directives such as info,holdfast_api=debug")
}

/// Why logs or traces could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The log filter is not one.
    #[error("the log filter cannot be read")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The exporter for traces could not be made.
    #[error("the exporter for traces could not be made")]
    Exporter(#[from] ExporterBuildError),
    /// Logs are set up already.
    #[error("logs are set up already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Keeps the exporter of traces. Dropping it flushes for up to a second.
#[must_use = "dropping it ends the export of traces"]
pub struct Guard {
    provider: Option<SdkTracerProvider>,
}

impl Guard {
    /// Whether spans go anywhere. If not, making them is a waste.
    pub fn traces(&self) -> bool {
        self.provider.is_some()
    }

    /// Sends what is left, for at most `limit`. Blocks: to be called when the runtime has ended.
    pub fn shutdown(mut self, limit: Duration) {
        self.flush(limit);
    }

    fn flush(&mut self, limit: Duration) {
        if let Some(provider) = self.provider.take() {
            // A collector that does not answer loses spans, and only spans.
            let _ = provider.shutdown_with_timeout(limit);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.flush(Duration::from_secs(1));
    }
}

/// Sets up logs (to standard error) and, if there is a collector, traces.
///
/// A collector that is down or slow costs nothing but its spans: they wait in a bounded queue
/// (`OTEL_BSP_MAX_QUEUE_SIZE`) that a thread of its own empties, and what does not fit is dropped.
///
/// # Errors
/// See [`InitError`].
pub fn init(service: &'static str, settings: &TelemetrySettings) -> Result<Guard, InitError> {
    let filter = EnvFilter::try_new(&settings.log)?;
    let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let logs = match settings.log_format {
        LogFormat::Json => logs.json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Pretty => logs.boxed(),
    };

    let provider = settings
        .otlp_endpoint
        .traces()
        .map(|endpoint| {
            let exporter = SpanExporter::builder().with_http().with_endpoint(endpoint).build()?;
            // The sampler, the queue's bounds and more attributes come from the standard
            // variables, which the SDK reads by itself.
            Ok::<_, InitError>(
                SdkTracerProvider::builder()
                    .with_batch_exporter(exporter)
                    .with_resource(Resource::builder().with_service_name(service).build())
                    .build(),
            )
        })
        .transpose()?;
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let traces = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(service))
            .with_location(false)
            .with_threads(false)
            .with_filter(LevelFilter::INFO)
    });

    tracing_subscriber::registry().with(traces).with(logs.with_filter(filter)).try_init()?;
    Ok(Guard { provider })
}
