//! What all Holdfast programs share: settings, logs, traces, metrics, and the internal port with `/metrics`, `/livez` and
//! `/readyz`.
//!
//! | module or item | subject |
//! |---|---|
//! | [`settings`] | parsers of settings, and the error of a wrong one |
//! | [`TelemetrySettings`], [`init`] | logs to standard error, traces over OTLP |
//! | [`log_level`] | changing what is logged at run time |
//! | [`traces`], [`propagation`] | sampling, spans, and the W3C trace context |
//! | [`REQUEST`] | what log lines say about the current request |
//! | [`metrics`] | the declaration of metrics, and their registry |
//! | [`Readiness`], [`InternalServer`], [`probe`] | the internal port |
//! | [`database_warnings`] | warnings that PostgreSQL sends with its answers |
//! | [`command`] | what the command lines share |
//! | [`Chain`] | an error with its causes on one line |
//!
//! Nothing about products and orders belongs here. Each crate declares its own metrics.
#![cfg_attr(test, allow(clippy::disallowed_methods))] // tests index values that they have created

mod chain;
pub mod command;
pub mod database_warnings;
mod init;
mod internal;
mod known_crates;
pub mod log_level;
mod log_line;
pub mod metrics;
mod probe;
mod process_metrics;
pub mod program;
pub mod propagation;
mod readiness;
pub mod settings;
pub mod settings_page;
pub mod traces;
mod unknown_settings;

pub use chain::Chain;
pub use init::{
    CommandLogs, InitError, LogFormat, TelemetryGuard, TelemetrySettings, init, init_command,
};
pub use internal::InternalServer;
pub use log_line::{REQUEST, RequestContext};
pub use metrics::Registry;
pub use probe::{ProbeError, ProbeTarget, probe};
pub use process_metrics::registry;
pub use readiness::Readiness;
pub use traces::OtlpEndpoint;
