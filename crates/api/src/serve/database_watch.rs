//! Tells the cache when the database may have been reset to an earlier state, by a restart, a failover or a restore.

use std::time::Duration;

use holdfast_cache::Cache;
use holdfast_store::Store;
use tokio::time::sleep;

use crate::products::CachedProduct;

/// The time between two queries. After a restore under running programs, old values are shown for little longer than this.
/// After a restart or a failover, the check happens on new connections before anything is read.
const INTERVAL: Duration = Duration::from_millis(500);

/// Watches until it is dropped.
pub(super) async fn watch(store: Store, cache: Cache<CachedProduct>) {
    let told = cache.clone();
    store.watch_database(move |identity| told.of_database(identity));
    loop {
        match store.database_identity().await {
            Ok(identity) => cache.of_database(&identity),
            // The next query will succeed when the database is available again.
            Err(error) => tracing::debug!(?error, "the identity of the database could not be read"),
        }
        sleep(INTERVAL).await;
    }
}
