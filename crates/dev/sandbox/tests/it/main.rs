//! The sandbox with real servers, processes and signals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods)] // tests index values that they have created

mod chart_backup;
mod command;
mod keep;
mod machine;
mod orphans;
mod parity;
mod policies;
mod postgres;
mod process;
mod proxy;
mod redis;
mod run;
mod settings;
mod traces;
