//! The benchmark of Holdfast, and the audit that checks its guarantees after each part.
//!
//! Here live: a load generator ([`load`]), the audit ([`audit`]), the baselines it is compared with
//! ([`nothing`], [`pgbench`]), the parts of the benchmark ([`scenarios`]) on private servers
//! ([`environment`]), reports of the results ([`report`]), and simulations of what one machine cannot
//! show ([`simulate`]). Everything is measured in one run on one machine, so that the ratios are valid on other machines.
//!
//! Must not live here: anything that is shipped; and code of the product's crates, because the audit must not rely on the
//! code that it checks. It knows only the API and the tables.
#![allow(clippy::disallowed_methods)]
// never shipped, and reads what its own programs wrote

// For display: a double can represent every count of a run, and rounding is intended.
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
