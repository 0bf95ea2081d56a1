//! The benchmark of the order system, and the audit that proves its promises after each part.
//!
//! Here live: a load generator ([`load`]), the audit ([`audit`]), the baselines it is compared with
//! ([`nothing`], [`pgbench`]), the parts of the benchmark ([`scenarios`]) on private servers
//! ([`environment`]), what is made of the figures ([`report`]), and simulations of what one machine cannot
//! show ([`simulate`]). Everything is measured in one run on
//! one machine, so that the ratios hold on any.
//!
//! Must not live here: anything that is shipped; and code of the order system's crates, which would
//! make the audit believe what it is to check. It knows the API and the tables, and that is all.
#![allow(clippy::disallowed_methods)]
// never shipped, and reads what its own programs wrote

// Figures for people: a double holds every count that a run can reach, and rounding is wanted.
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub mod audit;
pub mod environment;
pub mod load;
pub mod nothing;
pub mod pgbench;
pub mod processes;
pub mod report;
pub mod scenarios;
pub mod simulate;
