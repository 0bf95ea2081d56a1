//! `metrics`: every metric that `serve` shows, as a page, without serving. The reference
//! `docs/metrics.md` is made from it.

use axum::http::{Method, StatusCode};
use holdfast_cache::{Cache, CacheSettings};
use holdfast_store::{Store, StoreSettings};

use crate::{
    http::Route,
    serve::{ServeMetrics, observe},
};

/// The page, in Prometheus's text format. Neither a database nor Redis is asked. Must be called
/// within a tokio runtime.
///
/// # Errors
/// A name is registered twice.
pub fn metrics_page() -> anyhow::Result<String> {
    let store = Store::connect(&StoreSettings::new("postgres://nobody@127.0.0.1:1/none")?);
    let cache = Cache::connect(CacheSettings::new("redis://127.0.0.1:1"))?;
    let registry = holdfast_telemetry::registry("api", env!("CARGO_PKG_VERSION"))?;
    let metrics = ServeMetrics::new(&registry)?;
    observe(&registry, &store, &cache)?;
    // It has too many label sets to begin each of them with 0.
    metrics.http.begin(Route::Orders, &Method::POST).answered(StatusCode::CREATED);
    Ok(holdfast_telemetry::metrics_page(&registry)?)
}
