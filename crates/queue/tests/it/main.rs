//! The queue with a real Redis. Each test has its own server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods)] // tests index values that they have created

mod delivery;
mod depth;
mod failover;
mod faults;
mod fixture;
mod foreign;
mod loss;
mod workers;
