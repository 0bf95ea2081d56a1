//! Sets up logs and traces.

use std::{io::IsTerminal as _, time::Duration};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::{
    Layer, Registry, filter, fmt::format::Format, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{
    database_warnings, log_level,
    log_line::WithIds,
    settings::MustBe,
    traces::{self, settings::TraceSettings},
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line
    #[default]
    Json,
    /// Coloured text
    Pretty,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Logs and traces")]
pub struct TelemetrySettings {
    /// The log level: error, warn, info, debug, trace, or directives such as
    /// `info,holdfast_api=debug`
    #[arg(long, env = "HOLDFAST_LOG", default_value = "info", value_parser = parse_filter)]
    pub log: String,

    /// The format of log lines
    #[arg(long, env = "HOLDFAST_LOG_FORMAT", value_enum, default_value = "json")]
    pub log_format: LogFormat,

    #[command(flatten)]
    pub traces: TraceSettings,
}

/// The log settings of a command that ends by itself.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Logs")]
pub struct CommandLogs {
    /// The log level: error, warn, info, debug, trace, or directives such as
    /// `info,holdfast_api=debug`
    #[arg(long, env = "HOLDFAST_LOG", default_value = "warn", value_parser = parse_filter)]
    pub log: String,

    /// The format of log lines; if not set, pretty on a terminal and json elsewhere
    #[arg(long, env = "HOLDFAST_LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
}

fn parse_filter(text: &str) -> Result<String, MustBe> {
    log_level::parse(text).map(|_| text.to_owned())
}

/// Why logs or traces cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("the log filter is not valid")]
    Filter(#[from] MustBe),
    #[error("the trace exporter cannot be created")]
    Exporter(#[from] ExporterBuildError),
    #[error("the metrics of traces cannot be created")]
    Metrics(#[from] crate::metrics::Error),
    #[error("logs are already set up")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Owns the trace exporter. Dropping it flushes for up to a second.
#[must_use = "dropping it ends the export of traces"]
pub struct TelemetryGuard {
    provider: Option<SdkTracerProvider>,
}

impl TelemetryGuard {
    /// Whether spans are exported.
    pub fn traces(&self) -> bool {
        self.provider.is_some()
    }

    /// Sends the remaining spans, for at most `limit`. Blocks, so call it after the runtime has ended.
    pub fn shutdown(mut self, limit: Duration) {
        self.flush(limit);
    }

    fn flush(&mut self, limit: Duration) {
        if let Some(provider) = self.provider.take() {
            // If the collector does not answer, only spans are lost.
            let _ = provider.shutdown_with_timeout(limit);
        }
    }
}

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        self.flush(Duration::from_secs(1));
    }
}

/// Sets up logs to standard error and, with a collector, traces.
///
/// If the collector is down or slow, only spans are lost: they wait in a bounded queue (`OTEL_BSP_MAX_QUEUE_SIZE`), which a
/// separate thread sends; spans that do not fit are dropped and counted.
///
/// # Errors
/// See [`InitError`].
pub fn init(
    service: &'static str,
    settings: &TelemetrySettings,
) -> Result<TelemetryGuard, InitError> {
    let filter = log_level::changeable(log_level::parse(&settings.log)?);
    let lines = lines(settings.log_format);

    let provider = match settings.traces.address() {
        Some(address) => {
            let (metrics, _) = traces::metrics()?;
            Some(traces::provider(service, address, &settings.traces, metrics)?)
        }
        None => None,
    };
    // Only our own spans, because those of libraries are not part of the sampling decision.
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
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(spans)
        .with(database_warnings::layer())
        .try_init()?;
    if let Some(provider) = &provider {
        opentelemetry::global::set_tracer_provider(provider.clone());
        traces::activate(settings.traces.sampler());
    }
    Ok(TelemetryGuard { provider })
}

/// Sets up the logs of a command that ends by itself. It has no traces.
///
/// # Errors
/// See [`InitError`].
pub fn init_command(settings: &CommandLogs) -> Result<(), InitError> {
    let filter = log_level::changeable(log_level::parse(&settings.log)?);
    let terminal = std::io::stderr().is_terminal();
    let format = if terminal { LogFormat::Pretty } else { LogFormat::Json };
    let lines = lines(settings.log_format.unwrap_or(format)).with_filter(filter);
    Ok(tracing_subscriber::registry().with(lines).try_init()?)
}

/// Writes lines to standard error.
fn lines(format: LogFormat) -> Box<dyn Layer<Registry> + Send + Sync> {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    match format {
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
    }
}
