//! Tells the cache when the database may have gone back: after a restart, a failover or a restore.

use std::time::Duration;

use holdfast_cache::Cache;
use holdfast_store::Store;
use tokio::time::sleep;

use crate::products::CachedProduct;

/// How often the database is asked. What is cached of one that was restored in place is shown for no longer
/// than this and a little.
const INTERVAL: Duration = Duration::from_millis(500);
/// The same while it does not answer: it may come back as another one.
const AWAY_INTERVAL: Duration = Duration::from_millis(50);

/// Watches until it is dropped.
pub(super) async fn watch(store: Store, cache: Cache<CachedProduct>) {
    loop {
        match store.database_identity().await {
            Ok(identity) => {
                cache.of_database(&identity);
                sleep(INTERVAL).await;
            }
            Err(error) => {
                tracing::debug!(?error, "the database does not say which one it is");
                sleep(AWAY_INTERVAL).await;
            }
        }
    }
}
