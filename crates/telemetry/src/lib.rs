//! What all Holdfast programs share: settings, logs, traces, metrics, and the internal port with `/metrics`, `/livez` and
//! `/readyz`.
//!
//! What lives here: [`settings`] (parsers and the sentence), [`log_level`], [`TelemetrySettings`] and [`init`]
//! (logs to standard error, traces over OTLP), [`traces`] (which requests have a trace, and how spans
//! are made), [`propagation`] (W3C trace context in and out), [`REQUEST`] (what log lines say about
//! the request at hand), [`Readiness`], [`registry`] and [`InternalServer`], [`probe`] and [`command`] (what the binaries' command lines have in common) and
//! [`Chain`] (an error with its causes on one line).
//!
//! Nothing about products and orders belongs here. Each crate declares its own metrics.
#![cfg_attr(test, allow(clippy::disallowed_methods))] // what a test reads, it has made

mod chain;
pub mod command;
mod init;
mod internal;
mod known_crates;
pub mod log_level;
mod log_line;
pub mod metrics;
mod probe;
pub mod propagation;
mod readiness;
mod redis_ca;
mod redis_url;
pub mod settings;
pub mod settings_page;
pub mod traces;
mod unknown_settings;

pub use chain::Chain;
pub use init::{Guard, InitError, LogFormat, TelemetrySettings, init};
pub use internal::InternalServer;
pub use log_line::{REQUEST, Request};
pub use metrics::{Registry, registry};
pub use probe::{ProbeError, ProbeTarget, probe};
pub use readiness::Readiness;
pub use redis_ca::RedisCa;
pub use redis_url::RedisUrl;
pub use traces::OtlpEndpoint;
