//! Notices when the database may have been reset to an earlier state, by a restart, a failover or a restore: the cache is told,
//! and orders that were answered and are gone are reported.

use std::{sync::Arc, time::Duration};

use holdfast_admission::Admission;
use holdfast_cache::Cache;
use holdfast_store::Store;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::sleep};

use crate::products::CachedProduct;

/// The time between two queries. After a restore under running programs, old values are shown for little longer than this.
/// After a restart or a failover, the check happens on new connections before anything is read.
const INTERVAL: Duration = Duration::from_millis(500);
/// After this time, orders that may be lost are looked for again.
const AGAIN: Duration = Duration::from_secs(3);

/// The database that is in use, as far as connections have told.
#[derive(Default)]
struct KnownDatabase {
    identity: Mutex<Option<String>>,
    changed: Notify,
}

impl KnownDatabase {
    fn told(&self, identity: &str) {
        let before = self.identity.lock().replace(identity.to_owned());
        if before.is_some_and(|before| before != identity) {
            self.changed.notify_one();
        }
    }
}

/// Watches until it is dropped.
pub(super) async fn watch(
    store: Store,
    cache: Cache<CachedProduct>,
    admission: Admission<CachedProduct>,
) {
    let known = Arc::<KnownDatabase>::default();
    let (told, to_cache) = (Arc::clone(&known), cache.clone());
    store.watch_database(move |identity| {
        to_cache.of_database(identity);
        told.told(identity);
    });
    let asking = async {
        loop {
            match store.database_identity().await {
                Ok(identity) => {
                    cache.of_database(&identity);
                    known.told(&identity);
                }
                // The next query will succeed when the database is available again.
                Err(error) => {
                    tracing::debug!(?error, "the identity of the database could not be read");
                }
            }
            sleep(INTERVAL).await;
        }
    };
    tokio::join!(asking, report_lost_orders(&known, &admission));
}

async fn report_lost_orders(known: &KnownDatabase, admission: &Admission<CachedProduct>) {
    loop {
        known.changed.notified().await;
        // The second time for orders whose answers were on their way at the first.
        for wait in [Duration::ZERO, AGAIN] {
            sleep(wait).await;
            while let Err(error) = admission.report_lost_orders().await {
                tracing::debug!(?error, "it could not be checked whether orders were lost");
                sleep(INTERVAL).await;
            }
        }
    }
}
