//! The worker: takes orders from the queue, fulfils them, and finds those that were lost.
//!
//! What lives here: the loop that consumes (`consume`), the writing of outcomes (`finish`), the
//! leases of what is in hand (`hands`), the sweep and other
//! maintenance (`maintenance`), and fulfilment
//! itself ([`Fulfilment`]), which may be by [`webhook`]. What must not: SQL (that is in `holdfast-store`) and Redis commands (in
//! `holdfast-queue`).
//!
//! An order's way through it:
//!
//! ```text
//! queue ─▶ consume: claim in PostgreSQL ─▶ a task for each order ─▶ finish: write the outcome,
//!                                                                   then acknowledge
//! ```
//!
//! A message is acknowledged only after the outcome is committed. A worker that dies in between
//! leaves a message that another takes over, and an order whose claim it cannot have, because the
//! order is done: one effect, whatever is delivered twice.
#![cfg_attr(test, allow(clippy::disallowed_methods))] // what a test reads, it has made

mod backoff;
pub mod cli;
mod consume;
mod finish;
mod fulfilment;
mod hands;
mod health;
mod maintenance;
mod metrics;
mod metrics_page;
pub mod run;
pub mod settings;
mod shared;
mod trace;
mod unread;

pub use fulfilment::{FulfilError, Fulfilment, Handover, Simulated, Work, webhook};
pub use run::{Worker, WorkerSettings};
