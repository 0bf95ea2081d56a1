//! Admission with real servers, without HTTP. Each test has its own database.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods)] // what a test reads, it has made

mod fixture;
mod holds;
mod isolation;
mod keys;
mod lines;
mod orders;
mod refusals;
