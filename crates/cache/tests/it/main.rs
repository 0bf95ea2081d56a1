//! The cache with real Redis servers, one for each test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods)] // tests index values that they have created

mod failover;
mod fill_race;
mod flight;
mod foreign;
mod memory;
mod outage;
mod replicas;
mod restored;
mod shop;
mod soak;
