//! Products of sales are in the cache before the crowd comes.
//!
//! Each replica looks by itself for sales that are open or will soon be, and reads their products through
//! its cache, so that the first reader at the opening waits for no database.

use std::time::Duration;

use holdfast_cache::Cache;
use holdfast_store::Store;
use holdfast_telemetry::Chain;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::products::CachedProduct;

/// How long before its start a sale is warmed up.
const AHEAD: Duration = Duration::from_mins(10);
/// Between two looks. A product that was not read meanwhile may have left the cache.
const INTERVAL: Duration = Duration::from_secs(5);
/// The longest that one look may take.
const LIMIT: Duration = Duration::from_secs(5);
/// The most products that are warmed up.
const PRODUCTS_MAX: u32 = 1000;

/// Warms up until it is dropped. Must be called within a tokio runtime.
pub fn start(store: Store, cache: Cache<CachedProduct>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut rounds = interval(INTERVAL);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            if timeout(LIMIT, warm_up(&store, &cache)).await.is_err() {
                tracing::debug!("the products of sales were not warmed up in time");
            }
        }
    }))
}

async fn warm_up(store: &Store, cache: &Cache<CachedProduct>) {
    let products = match store.products_of_sales_within(AHEAD, PRODUCTS_MAX).await {
        Ok(products) => products,
        Err(error) => {
            tracing::debug!(error = %Chain(&error), "the sales to be warmed up are not known");
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
