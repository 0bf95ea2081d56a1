//! A table of products with row locks, and the servers of a test.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use holdfast_cache::{Cache, CacheSettings, Entry, Hit, StockChange};
use holdfast_sandbox::{PATIENCE, Redis, RedisOptions, until};
use parking_lot::Mutex;

/// A product row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredProduct {
    pub(crate) name: String,
    pub(crate) version: i64,
    pub(crate) stock: i64,
}

impl Entry for StoredProduct {
    fn version(&self) -> i64 {
        self.version
    }
    fn stock(&self) -> i64 {
        self.stock
    }
    fn set_stock(&mut self, version: i64, stock: i64) {
        self.version = version;
        self.stock = stock;
    }
    fn encode(&self) -> Bytes {
        format!("{} {} {}", self.version, self.stock, self.name).into()
    }
    fn decode(version: i64, body: &Bytes) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        let mut parts = text.splitn(3, ' ');
        assert_eq!(parts.next()?, version.to_string());
        let stock = parts.next()?.parse().ok()?;
        Some(Self { name: parts.next()?.to_owned(), version, stock })
    }
}

/// Stands for PostgreSQL: committed rows, a lock for each, and a count of reads.
#[derive(Clone, Default)]
pub(crate) struct CacheFixture {
    rows: Arc<Mutex<HashMap<i64, StoredProduct>>>,
    locks: Arc<Mutex<HashMap<i64, Arc<tokio::sync::Mutex<()>>>>>,
    loads: Arc<AtomicU64>,
}

impl CacheFixture {
    /// Products 1 to `products` at version 1 with a stock of 1000.
    pub(crate) fn new(products: i64) -> Self {
        let shop = Self::default();
        for id in 1..=products {
            let item = StoredProduct { name: format!("product {id}"), version: 1, stock: 1_000 };
            shop.rows.lock().insert(id, item);
        }
        shop
    }

    pub(crate) fn row(&self, id: i64) -> Option<StoredProduct> {
        self.rows.lock().get(&id).cloned()
    }

    pub(crate) async fn load(&self, id: i64) -> Result<Option<StoredProduct>, Infallible> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        let row = self.row(id);
        // The latency of a database.
        tokio::task::yield_now().await;
        Ok(row)
    }

    pub(crate) fn loads(&self) -> u64 {
        self.loads.load(Ordering::Relaxed)
    }

    /// The row's lock.
    pub(crate) fn lock(&self, id: i64) -> Arc<tokio::sync::Mutex<()>> {
        self.locks.lock().entry(id).or_default().clone()
    }

    /// Commits the next version with one unit less. Must be called under the row lock.
    pub(crate) fn take_one(&self, id: i64) -> StockChange {
        let mut rows = self.rows.lock();
        let row = rows.get_mut(&id).unwrap();
        row.version += 1;
        row.stock -= 1;
        let (version, stock) = (row.version, row.stock);
        StockChange { id, previous_version: version - 1, version, stock }
    }

    /// Commits the next version with another name. Must be called under the row lock.
    pub(crate) fn rename(&self, id: i64, name: &str) -> (i64, i64) {
        let mut rows = self.rows.lock();
        let row = rows.get_mut(&id).unwrap();
        row.version += 1;
        name.clone_into(&mut row.name);
        (id, row.version)
    }

    /// A complete order at a replica. Returns the committed version.
    pub(crate) async fn order(&self, cache: &Cache<StoredProduct>, id: i64) -> i64 {
        let lock = self.lock(id);
        let _locked = lock.lock().await;
        let raised = cache.raise(&[(id, self.row(id).unwrap().version + 1)]).await;
        let change = self.take_one(id);
        raised.committed(&[change]);
        change.version
    }

    pub(crate) async fn get(&self, cache: &Cache<StoredProduct>, id: i64) -> Hit {
        cache.get(id, || self.load(id)).await.unwrap().unwrap()
    }
}

pub(crate) async fn redis() -> Redis {
    Redis::start(RedisOptions::default()).await.unwrap()
}

/// Short times for the tests.
pub(crate) fn settings(redis: &Redis) -> CacheSettings {
    let mut settings = CacheSettings::new(redis.url());
    // Messages and fences keep the values correct in these tests.
    settings.max_age = Duration::from_mins(5);
    settings.retry_interval = Duration::from_millis(30);
    settings.quarantine = Duration::from_millis(300);
    settings.tick = Duration::from_millis(50);
    // On a busy machine, a call may take longer than in production.
    settings.op_timeout = Duration::from_secs(1);
    settings
}

/// A replica whose memory is armed.
pub(crate) async fn replica(redis: &Redis) -> Cache<StoredProduct> {
    armed(settings(redis)).await
}

pub(crate) async fn armed(settings: CacheSettings) -> Cache<StoredProduct> {
    let cache = Cache::connect(settings).unwrap();
    until("armed", async || cache.gauges().armed).await;
    cache
}

/// A replica without memory: if it does not load a value, the value is in Redis.
pub(crate) async fn onlooker(redis: &Redis) -> Cache<StoredProduct> {
    let mut settings = settings(redis);
    settings.armed_for = Duration::ZERO;
    let cache = Cache::connect(settings).unwrap();
    until("connected", async || cache.gauges().redis_up).await;
    cache
}

/// A separate connection, for inspection and faults, which waits for each answer for as long as a test.
pub(crate) async fn raw(redis: &Redis) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(redis.url()).unwrap();
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

pub(crate) async fn keys(redis: &Redis) -> Vec<String> {
    redis::cmd("KEYS").arg("holdfast:{product:*").query_async(&mut raw(redis).await).await.unwrap()
}
