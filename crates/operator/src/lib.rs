//! The operator: what Holdfast needs a control loop for on Kubernetes.
//!
//! What lives here: the external metrics API that tells the HPA how deep the queues are
//! (`external`, over `tls` and `caller`), the loop that keeps its certificates and its
//! registration right (`sync`), and the custom resource `FlashSale` (`sale`). What must not: SQL, Redis commands (they are in
//! `holdfast-queue`), and anything that an order has to wait for. If the operator is down, orders
//! flow on and the HPA holds its last size.
//!
//! A question's way through it:
//!
//! ```text
//! HPA ─▶ API server ─▶ tls: a listener ─▶ caller: who is it, may they? ─▶ external: which queues?
//!        (aggregator)                                                        │
//! HPA ◀─ a number, or a refusal ◀──────────────── Redis, asked now ◀─────────┘
//! ```
//!
//! Redis is asked while the caller waits, so no number can be stale. What Redis does not answer is
//! refused: the HPA then changes nothing, while a 0 would make it take the workers away.
#![cfg_attr(test, allow(clippy::disallowed_methods))] // what a test reads, it has made

pub mod authority;
pub mod caller;
mod calls;
pub mod cli;
pub mod external;
mod metrics;
mod own;
pub mod queues;
mod run;
pub mod sale;
pub mod selector;
mod sync;
mod tls;

pub use metrics::OperatorMetrics;
pub use own::Own;
pub use run::{Certificates, Operator, OperatorSettings, StartError};
