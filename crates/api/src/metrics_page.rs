//! All metrics of `serve`, for the subcommand `metrics`.

use holdfast_cache::{Cache, CacheSettings};
use holdfast_store::{Store, StoreSettings};
use holdfast_telemetry::Registry;

use crate::serve::{ServeMetrics, observe};

/// All metrics. Makes no connections. Must be called within a tokio runtime.
///
/// # Errors
/// A name is registered twice.
pub(crate) fn metrics() -> anyhow::Result<Registry> {
    let store = Store::connect(&StoreSettings::new("postgres://nobody@127.0.0.1:1/none")?);
    let cache = Cache::connect(CacheSettings::new("redis://127.0.0.1:1"))?;
    let registry = holdfast_telemetry::registry("api", env!("CARGO_PKG_VERSION"))?;
    ServeMetrics::new(&registry)?;
    observe(&registry, &store, &cache)?;
    Ok(registry)
}
