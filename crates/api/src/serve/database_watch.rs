//! Tells the cache when the database may have gone back: after a restart, a failover or a restore.

use std::time::Duration;

use holdfast_cache::Cache;
use holdfast_store::Store;
use tokio::time::sleep;

use crate::products::CachedProduct;

/// How often the database is asked. What is cached of one that was restored under running programs is shown
/// for no longer than this and a little. After a restart or a failover there are new connections, which tell before
/// anything is read on them.
const INTERVAL: Duration = Duration::from_millis(500);

/// Watches until it is dropped.
pub(super) async fn watch(store: Store, cache: Cache<CachedProduct>) {
    let told = cache.clone();
    store.watch_database(move |identity| told.of_database(identity));
    loop {
        match store.database_identity().await {
            Ok(identity) => cache.of_database(&identity),
            // It says who it is when it is back.
            Err(error) => tracing::debug!(?error, "the database does not say which one it is"),
        }
        sleep(INTERVAL).await;
    }
}
