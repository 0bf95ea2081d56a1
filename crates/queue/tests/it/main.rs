//! The queue against a real Redis. Each test has a server of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod delivery;
mod depth;
mod faults;
mod fixture;
