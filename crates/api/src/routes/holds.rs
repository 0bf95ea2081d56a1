//! Holds: units kept for a customer for a while.

pub mod create;
pub mod release;
