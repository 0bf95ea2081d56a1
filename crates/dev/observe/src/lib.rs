//! What people see of Holdfast, made from short descriptions: the dashboards for Grafana and the
//! reference of the metrics. Never shipped; what it writes is.
//!
//! Here live: the description of each dashboard ([`dashboards`]), how a description becomes
//! Grafana's JSON ([`grafana`]), and the reference of the metrics ([`reference`]). The tests hold what is written
//! against real binaries and a real Prometheus.
//! Must not live here: metrics themselves (they live with what they measure) and alerts (a plain
//! file of rules, `charts/holdfast/files/alerts.yaml`).
#![allow(clippy::disallowed_methods)] // never shipped, and reads what its own programs wrote

pub mod dashboards;
pub mod grafana;
pub mod promql;
pub mod reference;
