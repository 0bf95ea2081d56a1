//! The promises, proved by breaking things on purpose.
//!
//! Here live: a whole Holdfast on private servers ([`environment`]), clients that remember each answer
//! ([`clients`]), a downstream that counts what it was sent ([`downstream`]), the faults
//! ([`fault`]), one fault after the other with its audit ([`trial`]), and many at random
//! ([`chaos`]) with their timeline ([`timeline`]) and what they have covered ([`coverage`]).
//!
//! Must not live here: anything that is shipped, and code of the order system's crates. Like the
//! audit, it knows the processes, the API and the tables, and that is all.
#![allow(clippy::disallowed_methods)]
// never shipped, and reads what its own programs wrote

// Figures for people: a double holds every count that a run can reach, and rounding is wanted.
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub mod chaos;
pub mod clients;
pub mod coverage;
pub mod downstream;
pub mod environment;
pub mod fault;
pub mod table;
pub mod timeline;
pub mod trial;
