//! The benchmark's own tools, tried on real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod audit;
mod load;
mod pgbench;
mod scenarios;
mod server;
mod shop;
