//! The public interface of the cache: reads and writes through both tiers.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use holdfast_telemetry::{Registry, metrics};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::cell::{Begin, CacheMoment, Cell, KeepCondition};
use crate::entry::{Entry, Hit, LoadError, StockChange, Tier};
use crate::fence_guard::FenceGuard;
use crate::flight::LoadEnd;
use crate::l1::L1;
use crate::lease::Lease;
use crate::message::{self, MESSAGE_ITEMS};
use crate::metrics::{CacheMetrics, Gauges};
use crate::redis_connection::{Lookup, RedisConnection, Unavailable};
use crate::settings::CacheSettings;
use crate::tiers::Tiers;
use crate::value::RenderedEntry;
use crate::writer::{self, WriterMessage};
use crate::{confirm, reconnect, subscription};

/// Why a cache cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The Redis URL is not valid.
    #[error("the address of Redis {0}")]
    Url(holdfast_telemetry::settings::MustBe),
    /// A metric cannot be created.
    #[error("the metrics of the cache cannot be created")]
    Metrics(#[from] metrics::Error),
}

/// How many times a reader waits for another reader's load before it loads the product itself.
const JOINS: usize = 4;
/// How long [`Cache::shutdown`] waits for messages that are still to be sent.
const FAREWELL: Duration = Duration::from_millis(500);

/// The product cache of one replica. Cheap to clone; its background tasks end with the last clone.
pub struct Cache<E: Entry>(Arc<CacheInner<E>>);

struct CacheInner<E> {
    tiers: Arc<Tiers<E>>,
    registry: Registry,
    tasks: TaskTracker,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl<E> Deref for CacheInner<E> {
    type Target = Tiers<E>;

    fn deref(&self) -> &Tiers<E> {
        &self.tiers
    }
}

impl<E: Entry> Clone for Cache<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// What Redis allows a load to do with its value.
struct Permission {
    /// For the fill: the nonce, and when Redis gave it.
    lease: Option<(String, i64)>,
    /// Values with an older version are not kept in memory. `None` if Redis did not answer; then no value is kept.
    fence: Option<i64>,
}

impl<E: Entry> Cache<E> {
    /// Creates a cache that connects to Redis in the background, and reconnects after failures. Until it is connected, reads
    /// use the loader. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The Redis URL is not valid. A Redis that is down is not an error.
    pub fn connect(settings: CacheSettings) -> Result<Self, CacheError> {
        let registry = Registry::default();
        let metrics = Arc::new(CacheMetrics::new(&registry)?);
        let l1 = Arc::new(L1::new(&settings, metrics.clone()));
        let redis = Arc::new(RedisConnection::new(settings, metrics.clone())?);
        let (tiers, messages) = Tiers::new(l1.clone(), redis.clone(), metrics);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let background: [BoxFuture<'static, ()>; 3] = [
            Box::pin(reconnect::keep_connected(redis.clone())),
            Box::pin(subscription::listen(redis.clone(), l1.clone())),
            Box::pin(subscription::tick(redis.clone(), l1)),
        ];
        for task in background {
            tasks.spawn(stop.clone().run_until_cancelled_owned(task));
        }
        tasks.spawn(writer::write(redis, messages, stop.clone()));
        tasks.close();
        let shown = Arc::downgrade(&tiers);
        registry.before_each_page(move || {
            if let Some(tiers) = shown.upgrade() {
                tiers.metrics.show(tiers.gauges());
            }
        });
        let guard = stop.clone().drop_guard();
        Ok(Self(Arc::new(CacheInner { tiers, registry, tasks, stop, _stop_on_drop: guard })))
    }

    /// Periodically confirms with the database the products that are read here, so that they stay cached. `versions`
    /// returns the versions of those ids that exist. A value that is not confirmed is loaded again when it is older
    /// than [`CacheSettings::max_age`]. Must be called once, within a tokio runtime.
    pub fn confirm_with<F, V, X>(&self, versions: F)
    where
        F: Fn(Vec<i64>) -> V + Send + 'static,
        V: Future<Output = Result<Vec<(i64, i64)>, X>> + Send + 'static,
        X: std::error::Error + Send + 'static,
    {
        let metrics = self.0.metrics.clone();
        let confirming = confirm::run(self.0.l1.clone(), metrics, self.max_age(), versions);
        let stop = self.0.stop.clone();
        self.0.tasks.spawn(stop.run_until_cancelled_owned(confirming));
    }

    /// Tells the cache which database the products are in. `id` must change if versions may have gone back, as after a restore.
    /// Call it at the start and periodically. If the id has changed, everything cached from the previous database is forgotten,
    /// here and in Redis. Never waits.
    pub fn of_database(&self, id: &str) {
        if self.0.redis.identify(id) {
            self.0.change_database();
            tracing::warn!("the database was restarted or restored; the cache is emptied");
        }
    }

    /// Sends the remaining messages and ends the background tasks, within half a second. Afterwards, reads use the loader.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        self.0.l1.disarm();
        let _ = tokio::time::timeout(FAREWELL, async {
            self.0.tasks.wait().await;
            if self.0.redis.health.owed() > 0 {
                let _ = self.0.redis.repay().await;
            }
        })
        .await;
    }

    /// Returns a product from memory, from Redis, or from `load`. For each product, only one caller at a time runs `load`; the
    /// others get its result. `None`, if `load` finds nothing, is not cached.
    ///
    /// On this replica the result is never older than a change that was passed to [`committed`](Self::committed) or
    /// [`changed`](Self::changed) before the call.
    ///
    /// Waits for at most four loads of other callers, and then for Redis for at most one timeout, before it calls
    /// `load`. `load` must have its own time limit. Cancellation safe: another caller takes over.
    ///
    /// # Errors
    /// The error of `load`, of this caller or of the one that loaded for it.
    pub async fn get<F, L, X>(&self, id: i64, load: F) -> Result<Option<Hit>, LoadError>
    where
        F: FnOnce() -> L,
        L: Future<Output = Result<Option<E>, X>>,
        X: std::error::Error + Send + Sync + 'static,
    {
        let Tiers { l1, metrics, .. } = &**self.0;
        if let Some(hit) = l1.read(id) {
            metrics.process_hits.inc();
            return Ok(Some(hit));
        }
        for _ in 0..JOINS {
            let moment = l1.moment();
            let cell = l1.cell(id, moment.generation);
            let (flight, at_least) = match cell.begin(moment, l1.is_armed(moment.now)) {
                Begin::Hit(hit) => {
                    metrics.process_hits.inc();
                    return Ok(Some(hit));
                }
                Begin::Lead(flight) => {
                    let lease = Lease::new(cell.clone(), flight);
                    return self.lead(id, &cell, lease, moment, load).await;
                }
                Begin::Follow(flight, at_least) => (flight, at_least),
            };
            match flight.end().await {
                LoadEnd::Found(value, tier) if value.entry.version() >= at_least => {
                    metrics.shared_loads.inc();
                    return Ok(Some(value.hit(tier)));
                }
                LoadEnd::Missing if at_least == 0 => {
                    metrics.shared_loads.inc();
                    return Ok(None);
                }
                LoadEnd::Failed(error) => {
                    metrics.shared_loads.inc();
                    return Err(error);
                }
                // That load began before a change that our caller may know of, or was abandoned.
                LoadEnd::Found(..) | LoadEnd::Missing | LoadEnd::Abandoned => {}
            }
        }
        metrics.misses.inc();
        let found = load().await.map_err(|error| Arc::new(error) as LoadError)?;
        Ok(found.map(|entry| RenderedEntry::new(entry, None).hit(Tier::None)))
    }

    /// Reads from Redis and then from the database, for all waiting readers.
    async fn lead<F, L, X>(
        &self,
        id: i64,
        cell: &Arc<Cell<E>>,
        lease: Lease<E>,
        since: CacheMoment,
        load: F,
    ) -> Result<Option<Hit>, LoadError>
    where
        F: FnOnce() -> L,
        L: Future<Output = Result<Option<E>, X>>,
        X: std::error::Error + Send + Sync + 'static,
    {
        let Tiers { l1, redis, metrics, .. } = &**self.0;
        let mut permission = Permission { lease: None, fence: None };
        match redis.read(id).await {
            Ok(Lookup::Value { version, body, lives }) => {
                let body = Bytes::from(body);
                let fresh = version >= cell.floor(Instant::now());
                match E::decode(version, &body).filter(|_| fresh) {
                    Some(entry) => {
                        let keep = self.keep(since, version, since.now + lives);
                        let value = RenderedEntry::new(entry, Some(body));
                        metrics.redis_hits.inc();
                        return Ok(Some(self.land(id, cell, lease, value, Tier::Redis, keep)));
                    }
                    None => permission.fence = Some(version),
                }
            }
            Ok(Lookup::Nothing { fence, nonce, time }) => {
                permission = Permission { lease: Some((nonce, time)), fence: Some(fence) };
            }
            Err(Unavailable) => {}
        }
        metrics.misses.inc();
        match load().await {
            Ok(Some(entry)) => {
                // The fill contains the value as it was loaded, without the patches that `land` may apply: those are
                // for this process only.
                let value = RenderedEntry::new(entry, None);
                let keep = permission
                    .fence
                    .and_then(|fence| self.keep(since, fence, since.now + self.max_age()));
                let (version, body) = (value.entry.version(), value.body());
                if let Some((nonce, time)) = permission.lease.filter(|(nonce, _)| !nonce.is_empty())
                    && let Some(fill) = redis.fill_call((&nonce, time), id, version, &body)
                {
                    self.0.send(WriterMessage::Fill(fill));
                }
                Ok(Some(self.land(id, cell, lease, value, Tier::None, keep)))
            }
            Ok(None) => {
                if lease.without(LoadEnd::Missing) {
                    l1.forget(id, cell);
                }
                Ok(None)
            }
            Err(error) => {
                let error: LoadError = Arc::new(error);
                if lease.without(LoadEnd::Failed(error.clone())) {
                    l1.forget(id, cell);
                }
                Err(error)
            }
        }
    }

    fn max_age(&self) -> Duration {
        self.0.redis.settings.max_age
    }

    fn keep(&self, since: CacheMoment, floor: i64, until: Instant) -> Option<KeepCondition> {
        let now = self.0.l1.moment();
        let vouched = self.0.l1.is_armed(now.now) && now.generation == since.generation;
        vouched.then_some(KeepCondition { since, floor, until })
    }

    fn land(
        &self,
        id: i64,
        cell: &Arc<Cell<E>>,
        lease: Lease<E>,
        value: RenderedEntry<E>,
        tier: Tier,
        keep: Option<KeepCondition>,
    ) -> Hit {
        let (value, kept) = lease.found(value, tier, keep);
        let hit = value.hit(tier);
        if kept {
            self.0.l1.weigh(id, cell, hit.body.len());
        } else {
            self.0.metrics.process_refusals.inc();
        }
        hit
    }

    /// Fences products in Redis and tells the other replicas, before a commit.
    ///
    /// The writer must call it while it holds the rows' locks, with the versions that it is about to commit, and await it
    /// before it commits. It takes at most the Redis timeout. If Redis does not accept the fences, they are kept and
    /// delivered as soon as Redis does.
    pub async fn raise(&self, fences: &[(i64, i64)]) -> FenceGuard<E> {
        let redis = &self.0.redis;
        // Created first, so that a cancelled call suspends the products, too.
        let guard = FenceGuard::new(self.0.tiers.clone(), fences.to_vec());
        let texts = fences.chunks(MESSAGE_ITEMS);
        let messages: Vec<_> = texts.map(|some| message::fence(&redis.replica, some)).collect();
        self.0.metrics.fenced.inc_by(fences.len() as u64);
        if !fences.is_empty() {
            redis.raise(fences, &messages).await;
        }
        guard
    }

    /// Stock changes were committed. The writer must call it before it answers its caller. The values in this process are
    /// patched at once; the other replicas are told soon. Never waits.
    pub fn committed(&self, changes: &[StockChange]) {
        self.0.committed(changes);
    }

    /// These versions of products were committed, with changes besides stock. The writer must call it before it answers
    /// its caller. Never waits.
    pub fn changed(&self, changes: &[(i64, i64)]) {
        self.0.changed(changes);
    }

    /// The version and stock of a product in this process's memory, without waiting. `None` if they are unknown or a change is
    /// in progress on another replica.
    pub fn stock_hint(&self, id: i64) -> Option<(i64, i64)> {
        self.0.l1.stock(id)
    }

    /// What the cache has done.
    pub fn stats(&self) -> &CacheMetrics {
        &self.0.metrics
    }

    /// The registry of [`stats`](Self::stats), to be included in that of the process.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// The current state.
    pub fn gauges(&self) -> Gauges {
        self.0.gauges()
    }
}
