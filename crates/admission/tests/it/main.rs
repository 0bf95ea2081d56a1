//! Admission with real servers, without HTTP. Each test has its own database.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods)] // tests index values that they have created

mod fixture;
mod holds;
mod isolation;
mod keys;
mod lines;
mod orders;
mod refusals;
