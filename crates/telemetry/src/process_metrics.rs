//! The metrics of every process.

use prometheus::process_collector::ProcessCollector;

use crate::metrics::{Error, Registry};

crate::metrics! {
    /// The metrics of every process, besides `process_*`.
    struct BuildMetrics {
        /// The build that is running; always 1.
        build: IntGaugeVec = "holdfast_build_info" { service, version, commit },
    }
}

/// A registry with the metrics of every process: CPU, memory and files (`process_*`), its build, and the outcome of its
/// trace spans.
///
/// # Errors
/// Never in practice: the names are fixed and the registry is new.
pub fn registry(service: &str, version: &str) -> Result<Registry, Error> {
    let registry = Registry::default();
    registry.add_undeclared(Box::new(ProcessCollector::for_self()))?;
    let commit = option_env!("HOLDFAST_COMMIT").unwrap_or("unknown");
    BuildMetrics::new(&registry)?.build.with_label_values(&[service, version, commit]).set(1);
    let (_, traces) = crate::traces::metrics()?;
    registry.include(traces);
    Ok(registry)
}
