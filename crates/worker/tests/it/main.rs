//! Workers with a real PostgreSQL and a real Redis. Tests that kill a worker use the real
//! binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods)] // tests index values that they have created

mod ending;
mod endless;
mod failing_orders;
mod failover;
mod faults;
mod fixture;
mod large;
mod locked_orders;
mod lost_queue;
mod outages;
mod outcomes;
mod receiver;
mod settings;
mod standby;
mod taken;
mod tls;
mod webhook;
