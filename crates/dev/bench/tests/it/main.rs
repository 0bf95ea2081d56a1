//! The benchmark's own tools, tried on real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods)] // what a test reads, it has made

mod archive;
mod audit;
mod fixture;
mod load;
mod pgbench;
mod scenarios;
mod server;

/// Taken by tests that load the machine or measure time, so that they do not disturb one another.
static MACHINE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
