//! The registry that a process puts its metrics into.

use prometheus::{IntGauge, Opts, Registry, TextEncoder, process_collector::ProcessCollector};

/// A registry with what every process shows: CPU, memory and files of the process itself
/// (`process_*`), which build it is (`holdfast_build_info`), and what became of its traces.
///
/// # Errors
/// Never in practice: the names are fixed and the registry is new.
pub fn registry(service: &str, version: &str) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    registry.register(Box::new(ProcessCollector::for_self()))?;
    let build = IntGauge::with_opts(
        Opts::new("holdfast_build_info", "Which build runs; always 1.")
            .const_label("service", service)
            .const_label("version", version)
            .const_label("commit", option_env!("HOLDFAST_COMMIT").unwrap_or("unknown")),
    )?;
    build.set(1);
    registry.register(Box::new(build))?;
    crate::traces::Counts::get()?.register(&registry)?;
    Ok(registry)
}

/// All metrics of `registry` in Prometheus's text format, version 0.0.4.
///
/// # Errors
/// A metric that the format cannot show; ours all can be.
pub fn metrics_page(registry: &Registry) -> prometheus::Result<String> {
    let mut page = String::with_capacity(32 * 1024);
    TextEncoder::new().encode_utf8(&registry.gather(), &mut page)?;
    Ok(page)
}
