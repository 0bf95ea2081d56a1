//! Nothing lost, nothing doubled, whatever dies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod archive;
mod backup;
mod chaos;
mod explained;
mod faults;
mod growth;
mod kill_points;
mod next_schema;
mod refusals;
mod shutdown;
mod start;
