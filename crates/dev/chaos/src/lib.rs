//! Checks the guarantees by injecting faults.
//!
//! It contains a complete Holdfast on private servers ([`environment`]), clients that remember each answer
//! ([`clients`]), a receiver that counts its requests ([`downstream`]), the faults ([`fault`]), one fault after the
//! other with its audit ([`trial`]), random faults ([`chaos`]) with their timeline ([`timeline`]) and coverage
//! ([`coverage`]), and failovers of a real Patroni ([`failover`]).
//!
//! It contains nothing that is shipped and uses no code of the product. Like the audit, it knows only the processes,
//! the API and the tables.
#![allow(clippy::disallowed_methods)]
// never shipped, and reads what its own programs wrote

// For display: a double can represent every count of a run, and rounding is intended.
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub mod chaos;
pub mod clients;
pub mod coverage;
pub mod downstream;
pub mod environment;
pub mod failover;
pub mod fault;
pub mod table;
pub mod timeline;
pub mod trial;
