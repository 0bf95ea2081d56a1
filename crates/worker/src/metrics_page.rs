//! `metrics`: every metric that `run` shows, as a page, without working. The reference
//! `docs/metrics.md` is made from it.

use holdfast_store::{Store, StoreMetrics, StoreSettings};

use crate::{metrics::WorkerMetrics, webhook};

/// The page, in Prometheus's text format, with the metrics of the webhook. No database is asked.
/// Must be called within a tokio runtime.
///
/// # Errors
/// A name is registered twice.
pub(crate) fn metrics_page() -> anyhow::Result<String> {
    let store = Store::connect(&StoreSettings::new("postgres://nobody@127.0.0.1:1/none")?);
    let registry = holdfast_telemetry::registry("worker", env!("CARGO_PKG_VERSION"))?;
    WorkerMetrics::new(&registry)?;
    StoreMetrics::register(&registry, &store)?;
    webhook::register_metrics(&registry)?;
    Ok(holdfast_telemetry::metrics_page(&registry)?)
}
