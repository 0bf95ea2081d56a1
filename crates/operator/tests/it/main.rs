//! The operator on a real control plane, with real Redis servers.
//!
//! All tests share one control plane and two replicas of the operator, because a cluster can have only one external
//! metrics API. Each test has its own namespace. They are ignored unless `scripts/kubernetes-assets` has run; `make
//! test` includes them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods)] // tests index values that they have created

mod answers;
mod backlog;
mod certificates;
mod cluster;
mod faults;
mod footprint;
mod hpa;
mod namespaces;
mod objects;
mod redis_tls;
mod releases;
mod replicas;
mod rights;
mod sale_faults;
mod sale_resource;
mod sales;
mod settings;
mod strangers;
mod wire;
mod withdrawal;
