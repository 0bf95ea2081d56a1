//! The cache as its users see it: both tiers, reading and writing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::cell::{Begin, Keep, Moment, Value};
use crate::courier::{self, Parcel};
use crate::entry::{Entry, Hit, LoadError, StockChange, Tier};
use crate::flight::{Lease, Outcome};
use crate::l1::L1;
use crate::link::{Found, Link, Unavailable};
use crate::message::{self, MESSAGE_ITEMS};
use crate::raised::Raised;
use crate::settings::CacheSettings;
use crate::stats::{Gauges, Stats};
use crate::{confirm, keeper, subscription};

/// A cache that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The address of Redis is not understood.
    #[error("the address of Redis is not a valid redis:// URL")]
    Url(#[source] redis::RedisError),
}

/// How often a reader joins another's load before it loads for itself alone.
const JOINS: usize = 4;
/// How long [`Cache::shutdown`] waits for what is still to be sent.
const FAREWELL: Duration = Duration::from_millis(500);

/// The product cache of one replica. Cheap to clone; its background tasks end with the last clone.
pub struct Cache<E: Entry>(Arc<Inner<E>>);

struct Inner<E> {
    l1: Arc<L1<E>>,
    link: Arc<Link>,
    parcels: mpsc::Sender<Parcel>,
    stats: Arc<Stats>,
    tasks: TaskTracker,
    /// Counts the databases that were said to be another one.
    database: AtomicU64,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl<E: Entry> Clone for Cache<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// What Redis let us have.
struct Lookup {
    /// Where a loaded value is to be filled in: the nonce, and when it was given.
    lease: Option<(String, i64)>,
    /// Older values are not kept in memory; `None` if Redis did not say, and then nothing is kept.
    fence: Option<i64>,
}

impl<E: Entry> Cache<E> {
    /// Makes a cache and connects to Redis in the background, now and whenever it was away. Until
    /// it is connected, reads go to the loader. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// An address that cannot be understood; never that Redis is away.
    pub fn connect(settings: CacheSettings) -> Result<Self, CacheError> {
        let stats = Arc::new(Stats::default());
        let l1 = Arc::new(L1::new(&settings, stats.clone()));
        let link = Arc::new(Link::new(settings, stats.clone())?);
        let (parcels, queue) = mpsc::channel(courier::QUEUE);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let keep = keeper::keep(link.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(keep));
        let listen = subscription::listen(link.clone(), l1.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(listen));
        let tick = subscription::tick(link.clone(), l1.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(tick));
        tasks.spawn(courier::carry(link.clone(), queue, stop.clone()));
        tasks.close();
        let guard = stop.clone().drop_guard();
        let database = AtomicU64::new(0);
        Ok(Self(Arc::new(Inner {
            l1,
            link,
            parcels,
            stats,
            tasks,
            database,
            stop,
            _stop_on_drop: guard,
        })))
    }

    /// Asks the database again and again for the versions of the products that are read here, so that they may be
    /// served on: `versions` gives those of the ids that are there. What it does not confirm is read anew when it is
    /// older than [`CacheSettings::max_age`]. Must be called within a tokio runtime, once.
    pub fn confirm_with<F, V, X>(&self, versions: F)
    where
        F: Fn(Vec<i64>) -> V + Send + 'static,
        V: Future<Output = Result<Vec<(i64, i64)>, X>> + Send + 'static,
        X: std::error::Error + Send + 'static,
    {
        let confirming = confirm::run(self.0.l1.clone(), self.max_age(), versions);
        let stop = self.0.stop.clone();
        self.0.tasks.spawn(stop.run_until_cancelled_owned(confirming));
    }

    /// Says which database the products are in: a text that is another one if versions may have gone back, as
    /// after a restore. To be called at the start and again and again; if it has changed, everything that
    /// is remembered of the one before is forgotten, here and in Redis. Never waits.
    pub fn of_database(&self, id: &str) {
        if self.0.link.identify(id) {
            // First, so that what was committed before does not come in afterwards.
            self.0.database.fetch_add(1, Ordering::AcqRel);
            self.0.l1.reset();
            tracing::warn!("the database was restarted or restored: what is cached is forgotten");
        }
    }

    /// Sends what is still to be sent and ends the background tasks, within half a second. The
    /// cache goes on answering from its loader.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        self.0.l1.disarm();
        let _ = tokio::time::timeout(FAREWELL, async {
            self.0.tasks.wait().await;
            if self.0.link.health.owed() > 0 {
                let _ = self.0.link.repay().await;
            }
        })
        .await;
    }

    /// A product: from memory, from Redis, or else from `load`, which is run at most once, and by
    /// one caller at a time for a product; the others get its answer. `None` if `load` finds
    /// nothing, which is not cached.
    ///
    /// On this replica the answer is never older than a change of which [`committed`](
    /// Self::committed) or [`changed`](Self::changed) was told before the call.
    ///
    /// Waits for Redis for at most its timeout, once; how long `load` may take is up to it, and it
    /// must be limited. Cancellation safe: another caller takes over.
    ///
    /// # Errors
    /// What `load` failed with, here or at the caller that loaded for us.
    pub async fn get<F, L, X>(&self, id: i64, load: F) -> Result<Option<Hit>, LoadError>
    where
        F: FnOnce() -> L,
        L: Future<Output = Result<Option<E>, X>>,
        X: std::error::Error + Send + Sync + 'static,
    {
        let Inner { l1, stats, .. } = &*self.0;
        if let Some(hit) = l1.read(id) {
            stats.process_hits.inc();
            return Ok(Some(hit));
        }
        for _ in 0..JOINS {
            let moment = l1.moment();
            let cell = l1.cell(id, moment.generation);
            let (flight, at_least) = match cell.begin(moment, l1.is_armed(moment.now)) {
                Begin::Hit(hit) => {
                    stats.process_hits.inc();
                    return Ok(Some(hit));
                }
                Begin::Lead(flight) => {
                    let lease = Lease::new(cell.clone(), flight);
                    return self.lead(id, &cell, lease, moment, load).await;
                }
                Begin::Follow(flight, at_least) => (flight, at_least),
            };
            match flight.outcome().await {
                Outcome::Found(value, tier) if value.entry.version() >= at_least => {
                    stats.shared_loads.inc();
                    return Ok(Some(value.hit(tier)));
                }
                Outcome::Missing if at_least == 0 => {
                    stats.shared_loads.inc();
                    return Ok(None);
                }
                Outcome::Failed(error) => {
                    stats.shared_loads.inc();
                    return Err(error);
                }
                // That load began before a change that our caller may know of, or was given up.
                Outcome::Found(..) | Outcome::Missing | Outcome::Abandoned => {}
            }
        }
        stats.misses.inc();
        let found = load().await.map_err(|error| Arc::new(error) as LoadError)?;
        Ok(found.map(|entry| Value::new(entry, None).hit(Tier::None)))
    }

    /// Looks in Redis and then in the database, for all who wait.
    async fn lead<F, L, X>(
        &self,
        id: i64,
        cell: &Arc<crate::cell::Cell<E>>,
        lease: Lease<E>,
        since: Moment,
        load: F,
    ) -> Result<Option<Hit>, LoadError>
    where
        F: FnOnce() -> L,
        L: Future<Output = Result<Option<E>, X>>,
        X: std::error::Error + Send + Sync + 'static,
    {
        let Inner { l1, link, stats, .. } = &*self.0;
        let mut lookup = Lookup { lease: None, fence: None };
        match link.read(id).await {
            Ok(Found::Value { version, body, lives }) => {
                let body = Bytes::from(body);
                let fresh = version >= cell.floor(Instant::now());
                match E::decode(version, &body).filter(|_| fresh) {
                    Some(entry) => {
                        let keep = self.keep(since, version, since.now + lives);
                        let value = Value::new(entry, Some(body));
                        stats.redis_hits.inc();
                        return Ok(Some(self.land(id, cell, lease, value, Tier::Redis, keep)));
                    }
                    None => lookup.fence = Some(version),
                }
            }
            Ok(Found::Nothing { fence, nonce, time }) => {
                lookup = Lookup { lease: Some((nonce, time)), fence: Some(fence) };
            }
            Err(Unavailable) => {}
        }
        stats.misses.inc();
        match load().await {
            Ok(Some(entry)) => {
                // What was loaded, not what it may be patched to on landing: the patch is for this
                // process, and the next reader's patch would be too.
                let value = Value::new(entry, None);
                let keep = lookup
                    .fence
                    .and_then(|fence| self.keep(since, fence, since.now + self.max_age()));
                let (version, body) = (value.entry.version(), value.body());
                if let Some((nonce, time)) = lookup.lease.filter(|(nonce, _)| !nonce.is_empty())
                    && let Some(fill) = link.fill_call((&nonce, time), id, version, &body)
                {
                    self.send(Parcel::Fill(fill));
                }
                Ok(Some(self.land(id, cell, lease, value, Tier::None, keep)))
            }
            Ok(None) => {
                if lease.without(Outcome::Missing) {
                    l1.forget(id, cell);
                }
                Ok(None)
            }
            Err(error) => {
                let error: LoadError = Arc::new(error);
                if lease.without(Outcome::Failed(error.clone())) {
                    l1.forget(id, cell);
                }
                Err(error)
            }
        }
    }

    fn max_age(&self) -> Duration {
        self.0.link.settings.max_age
    }

    fn keep(&self, since: Moment, floor: i64, until: Instant) -> Option<Keep> {
        let now = self.0.l1.moment();
        let vouched = self.0.l1.is_armed(now.now) && now.generation == since.generation;
        vouched.then_some(Keep { since, floor, until })
    }

    fn land(
        &self,
        id: i64,
        cell: &Arc<crate::cell::Cell<E>>,
        lease: Lease<E>,
        value: Value<E>,
        tier: Tier,
        keep: Option<Keep>,
    ) -> Hit {
        let (value, kept) = lease.found(value, tier, keep);
        let hit = value.hit(tier);
        if kept {
            self.0.l1.weigh(id, cell, hit.body.len());
        } else {
            self.0.stats.process_refusals.inc();
        }
        hit
    }

    /// Fences products in Redis and tells the other replicas, before a commit.
    ///
    /// To be called by the writer while it holds the rows' locks, with the versions that it is
    /// about to commit, and awaited before it commits. Takes at most the Redis timeout; if Redis
    /// does not take it, the fences are remembered and delivered as soon as it does.
    pub async fn raise(&self, fences: &[(i64, i64)]) -> Raised<E> {
        let link = &self.0.link;
        // First, so that a cancelled call suspends too.
        let raised = Raised::new(self.clone(), fences.to_vec());
        let texts = fences.chunks(MESSAGE_ITEMS);
        let messages: Vec<_> = texts.map(|some| message::fence(&link.replica, some)).collect();
        self.0.stats.raised.add(fences.len() as u64);
        if !fences.is_empty() {
            link.raise(fences, &messages).await;
        }
        raised
    }

    /// Stock changes were committed; to be called before the writer answers its caller. What this
    /// replica holds is patched at once; the others are told soon. Never waits.
    pub fn committed(&self, changes: &[StockChange]) {
        for change in changes {
            self.0.l1.restock(change);
        }
        if !changes.is_empty() {
            self.send(Parcel::Stock(changes.to_vec()));
        }
    }

    /// These versions of products were committed, with changes besides stock; to be called before
    /// the writer answers its caller. Never waits.
    pub fn changed(&self, changes: &[(i64, i64)]) {
        for (id, version) in changes {
            self.0.l1.change(*id, *version);
        }
        if !changes.is_empty() {
            self.send(Parcel::Drop(changes.to_vec()));
        }
    }

    /// Counts the databases that the products were in.
    pub(crate) fn database(&self) -> u64 {
        self.0.database.load(Ordering::Acquire)
    }

    /// Perhaps committed.
    pub(crate) fn suspend(&self, id: i64, version: i64) {
        self.0.l1.suspend(id, version);
    }

    fn send(&self, parcel: Parcel) {
        if self.0.parcels.try_send(parcel).is_err() {
            self.0.stats.dropped.inc();
        }
    }

    /// The version and stock of a product as this process knows them, without waiting; `None` if
    /// it does not know, or a change is under way at another replica.
    pub fn stock_hint(&self, id: i64) -> Option<(i64, i64)> {
        self.0.l1.stock(id)
    }

    /// What it has done.
    pub fn stats(&self) -> &Stats {
        &self.0.stats
    }

    /// How it is.
    pub fn gauges(&self) -> Gauges {
        let Inner { l1, link, .. } = &*self.0;
        Gauges {
            armed: l1.is_armed(Instant::now()),
            redis_up: link.is_up(),
            process_entries: l1.len(),
            process_bytes: l1.bytes(),
            owed: link.health.owed(),
        }
    }
}
