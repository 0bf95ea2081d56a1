//! Holds: units kept for a customer for a while.

pub mod create;
pub mod get;
pub mod list;
pub mod release;
