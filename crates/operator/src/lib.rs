//! The operator: what Holdfast needs on Kubernetes besides its other programs.
//!
//! - `external`: the external metrics API that tells the HPA how deep the queues are, over `tls` and `caller`.
//! - `sync`: certificates, the registration of that API, and the list of `queues`.
//! - `sale`: the controller of the custom resource `FlashSale`.
//! - `leadership`: which replica writes.
//!
//! It contains no SQL and no Redis commands (they are in `holdfast-queue`), and orders never wait for it. While the
//! operator is down, orders continue, and the HPA keeps the number of workers.
//!
//! The path of a request for a metric:
//!
//! ```text
//! HPA ─▶ API server ─▶ tls: a listener ─▶ caller: who is it, may they? ─▶ external: which queues?
//!        (aggregator)                                                        │
//! HPA ◀─ a number, or a refusal ◀──────────── PostgreSQL and Redis ◀─────────┘
//! ```
//!
//! PostgreSQL and Redis are read while the caller waits, so no value is stale. If Redis does not answer, the request is
//! refused, and the HPA changes nothing. With the value 0, it would remove workers.
#![allow(missing_docs, clippy::missing_errors_doc)] // not published
#![cfg_attr(test, allow(clippy::disallowed_methods))] // tests parse JSON of their own

pub mod authority;
mod bounded_file;
mod caller;
mod calls;
pub mod cli;
mod external;
mod failures;
mod jobs;
mod kubernetes_names;
mod leadership;
mod metrics;
mod object_names;
pub mod queues;
mod run;
pub mod sale;
pub mod selector;
mod sync;
mod tls;

pub use metrics::OperatorMetrics;
pub use object_names::ObjectNames;
pub use run::{Certificates, Operator, OperatorSettings, StartError};
