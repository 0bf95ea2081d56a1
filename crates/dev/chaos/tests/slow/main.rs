//! No write is lost or done twice, whichever process or server fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods)] // tests index values that they have created

mod archive;
mod backup;
mod cancelled;
mod explained;
mod failover;
mod faults;
mod growth;
mod kill_points;
mod lost;
mod major_upgrade;
mod next_schema;
mod refusals;
mod restored;
mod shutdown;
mod start;
mod waits;
mod writes;
