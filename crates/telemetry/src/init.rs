//! Logs and traces of a process.

use std::{io::IsTerminal as _, time::Duration};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::{
    Layer, filter, fmt::format::Format, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::{
    log_level,
    log_line::WithIds,
    settings::MustBe,
    traces::{self, settings::TraceSettings},
};

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

    /// Traces.
    #[command(flatten)]
    pub traces: TraceSettings,
}

fn parse_filter(text: &str) -> Result<String, MustBe> {
    log_level::parse(text).map(|_| text.to_owned())
}

/// Why logs or traces could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The log filter is not one.
    #[error("the log filter cannot be read")]
    Filter(#[from] MustBe),
    /// The exporter for traces could not be made.
    #[error("the exporter for traces could not be made")]
    Exporter(#[from] ExporterBuildError),
    /// Its metrics could not be made.
    #[error("the metrics of traces could not be made")]
    Metrics(#[from] crate::metrics::Error),
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
/// (`OTEL_BSP_MAX_QUEUE_SIZE`) that a thread of its own empties, and what does not fit is dropped
/// and counted.
///
/// # Errors
/// See [`InitError`].
pub fn init(service: &'static str, settings: &TelemetrySettings) -> Result<Guard, InitError> {
    let filter = log_level::changeable(log_level::parse(&settings.log)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = match settings.log_format {
        LogFormat::Json => {
            let format = Format::default().json().flatten_event(true);
            let format = format.with_current_span(false).with_span_list(false);
            lines
                .fmt_fields(tracing_subscriber::fmt::format::JsonFields::new())
                .event_format(WithIds(format))
                .boxed()
        }
        LogFormat::Pretty => {
            lines.event_format(WithIds(Format::default().with_ansi(colours))).boxed()
        }
    };

    let provider = settings
        .traces
        .address()
        .map(|address| traces::provider(service, address, &settings.traces))
        .transpose()?;
    // Our own spans only: those of libraries would come without anybody having decided on them.
    let ours = filter::filter_fn(|about| {
        *about.level() <= tracing::Level::INFO && about.target().starts_with("holdfast")
    });
    let spans = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(traces::SCOPE))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(ours.with_max_level_hint(filter::LevelFilter::INFO))
    });
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(spans).try_init()?;
    if let Some(provider) = &provider {
        opentelemetry::global::set_tracer_provider(provider.clone());
        traces::activate(settings.traces.sampler());
    }
    Ok(Guard { provider })
}
