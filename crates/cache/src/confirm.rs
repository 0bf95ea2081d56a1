//! Confirms values in memory with the database.
//!
//! Messages of other replicas keep the memory up to date within milliseconds, but a writer that cannot
//! reach Redis sends none. Therefore, a value is served only if it was read from the database, or
//! confirmed there, within [`CacheSettings::max_age`](crate::CacheSettings::max_age). Products that are
//! being read are confirmed together, twice within that time, so that readers do not have to wait.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::{entry::Entry, l1::L1, metrics::CacheMetrics};

/// The most products of one query.
const AT_ONCE: usize = 4096;

/// Runs until dropped.
pub(crate) async fn run<E, F, V, X>(
    l1: Arc<L1<E>>,
    metrics: Arc<CacheMetrics>,
    max_age: Duration,
    versions: F,
) where
    E: Entry,
    F: Fn(Vec<i64>) -> V,
    V: Future<Output = Result<Vec<(i64, i64)>, X>>,
    X: std::error::Error,
{
    let mut ticks = interval((max_age / 2).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for ids in l1.take_read().chunks(AT_ONCE) {
            // The answer is true for this time or a later one.
            let asked = Instant::now();
            match timeout(max_age, versions(ids.to_vec())).await {
                Ok(Ok(found)) => {
                    let found: HashMap<_, _> = found.into_iter().collect();
                    let confirm = |id: &&i64| l1.confirm(**id, found.get(*id).copied(), asked);
                    let unchanged = ids.iter().filter(confirm).count();
                    metrics.confirmed_unchanged.inc_by(unchanged as u64);
                    metrics.confirmed_changed.inc_by((ids.len() - unchanged) as u64);
                    continue;
                }
                // The values become too old, and the next reader loads them again.
                Ok(Err(error)) => tracing::debug!(%error, "products were not confirmed"),
                Err(_elapsed) => tracing::debug!("products were not confirmed in time"),
            }
            metrics.confirmations_failed.inc_by(ids.len() as u64);
        }
    }
}
