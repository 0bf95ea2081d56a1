//! Loads the products of sales into the cache before the sales open.
//!
//! Each replica looks for sales that are open or will open soon, and reads their products through its cache, so that the
//! first readers after the opening do not wait for the database.

use std::time::Duration;

use holdfast_cache::Cache;
use holdfast_store::Store;
use holdfast_telemetry::Chain;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::products::CachedProduct;

/// How long before its start a sale is warmed up.
const AHEAD: Duration = Duration::from_mins(10);
/// The time between two runs. A product that was not read in the meantime may have been evicted.
const INTERVAL: Duration = Duration::from_secs(5);
/// The longest time of a run.
const LIMIT: Duration = Duration::from_secs(5);
/// The most products that are warmed up.
const PRODUCTS_MAX: u32 = 1000;

/// Warms up the cache until it is dropped. Must be called within a tokio runtime.
pub fn start(store: Store, cache: Cache<CachedProduct>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut rounds = interval(INTERVAL);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            if timeout(LIMIT, warm_up(&store, &cache)).await.is_err() {
                tracing::debug!("the products of sales were not loaded in time");
            }
        }
    }))
}

async fn warm_up(store: &Store, cache: &Cache<CachedProduct>) {
    let products = match store.products_of_sales_within(AHEAD, PRODUCTS_MAX).await {
        Ok(products) => products,
        Err(error) => {
            tracing::debug!(error = %Chain(&error), "the sales could not be read");
            return;
        }
    };
    for product_id in products {
        let load =
            async || store.product(product_id).await.map(|found| found.map(CachedProduct::from));
        if let Err(error) = cache.get(product_id.0, load).await {
            tracing::debug!(error = %Chain(&error), "a product of a sale could not be read");
        }
    }
}
