//! The benchmark of Holdfast, and the audit that checks its guarantees after each part.
//!
//! It contains a load generator ([`load`]), the audit ([`audit`]), the baselines ([`nothing`], [`pgbench`]), the parts
//! of the benchmark ([`scenarios`]) on private servers ([`environment`]), reports ([`report`]), and simulations of
//! setups that one machine cannot run ([`simulate`]). Everything is measured in one run on one machine, so that the
//! ratios are valid on other machines.
//!
//! It contains nothing that is shipped and uses no code of the product, because the audit must not rely on the code
//! that it checks. It knows only the API and the tables.
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
