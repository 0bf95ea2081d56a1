//! The dashboards for Grafana and the reference of the metrics, generated from short descriptions. The crate is not
//! shipped, but its output is.
//!
//! It contains the description of each dashboard ([`dashboards`]), the generation of Grafana's JSON ([`grafana`]), and
//! the reference of the metrics ([`reference`]). The tests compare them with real binaries and a real Prometheus. The
//! metrics themselves belong to the crates that measure them, and the alerts to `charts/holdfast/files/alerts.yaml`.
#![allow(clippy::disallowed_methods)] // never shipped, and reads what its own programs wrote

pub mod dashboards;
pub mod grafana;
pub mod promql;
pub mod reference;
