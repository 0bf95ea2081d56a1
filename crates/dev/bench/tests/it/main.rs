//! The tools of the benchmark, with real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods)] // tests index values that they have created

mod archive;
mod audit;
mod fixture;
mod load;
mod pgbench;
mod scenarios;
mod server;

/// Locked by tests that load the machine or measure time, so that they do not disturb each other.
static MACHINE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
