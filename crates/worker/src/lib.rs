//! The worker: takes orders from the queue, fulfils them, and finds lost orders.
//!
//! This crate contains the loop that reads the queue (`consume`), the writing of outcomes (`finish`), the orders in flight
//! and their leases (`in_flight`), the sweep (`sweep`) and the other periodic jobs (`maintenance`), and fulfilment itself
//! ([`Fulfilment`]), for example by [`webhook`]. It contains no SQL (see `holdfast-store`) and no Redis commands (see
//! `holdfast-queue`).
//!
//! ```text
//! queue ─▶ consume: claim in PostgreSQL ─▶ one task per order ─▶ finish: write the outcome,
//!                                                                then acknowledge the message
//! ```
//!
//! A message is acknowledged only after the outcome is committed. If a worker dies in between, another worker receives the
//! message again and cannot claim the order, because it is finished. So a message that is delivered twice has one effect.
#![cfg_attr(test, allow(clippy::disallowed_methods))] // tests index values that they have created

mod backoff;
pub mod cli;
mod consume;
mod context;
mod finish;
mod fulfilment;
mod health;
mod in_flight;
mod jobs;
mod maintenance;
mod maintenance_task;
mod metrics;
mod refill;
pub mod run;
pub mod settings;
mod sweep;
mod trace;
mod unread;

pub use fulfilment::{FulfilError, Fulfilment, Handover, OrderToFulfil, Simulated, webhook};
pub use run::{Worker, WorkerSettings};
