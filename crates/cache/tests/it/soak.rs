//! Random writers and readers on two replicas, with a healthy Redis and with one that is continuously emptied,
//! disconnected and hung.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use holdfast_cache::{Cache, CacheSettings};
use holdfast_sandbox::{Redis, until};
use parking_lot::Mutex;
use rand::Rng;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::shop::{CacheFixture, StoredProduct, armed, raw, redis, settings};

const PRODUCTS: usize = 4;

/// The newest version of each product that one replica has acknowledged.
type Acknowledged = Arc<[AtomicI64; PRODUCTS]>;

struct Soak {
    shop: CacheFixture,
    over: Arc<AtomicBool>,
    /// By product: the newest version that each replica must show now, and the time at which it was acknowledged.
    history: Arc<Mutex<Vec<(i64, i64, Instant)>>>,
}

fn any_product() -> (usize, i64) {
    let index = rand::rng().random_range(0..PRODUCTS);
    (index, 1 + i64::try_from(index).unwrap())
}

/// Up to this many microseconds, so that operations meet in every order.
fn a_while(micros: u64) -> tokio::time::Sleep {
    sleep(Duration::from_micros(rand::rng().random_range(0..micros)))
}

async fn write(soak: Arc<Soak>, cache: Cache<StoredProduct>, acknowledged: Acknowledged) {
    while !soak.over.load(Ordering::Relaxed) {
        let (index, id) = any_product();
        let lock = soak.shop.lock(id);
        let locked = lock.lock().await;
        let next = soak.shop.row(id).unwrap().version + 1;
        let raised = cache.raise(&[(id, next)]).await;
        a_while(2_000).await;
        let fate = rand::rng().random_range(0..20);
        match fate {
            0 => {
                // It fails, so nothing was committed.
                raised.aborted();
                continue;
            }
            1 => {
                soak.shop.rename(id, &format!("name {next}"));
                drop(locked);
                raised.changed();
            }
            2 => {
                // Cancelled between its commit and the message.
                soak.shop.take_one(id);
                drop(locked);
                drop(raised);
            }
            _ => {
                let change = soak.shop.take_one(id);
                drop(locked);
                if rand::random() {
                    tokio::task::yield_now().await;
                }
                raised.committed(&[change]);
            }
        }
        acknowledged[index].fetch_max(next, Ordering::SeqCst);
        soak.history.lock().push((id, next, Instant::now()));
        a_while(2_000).await;
    }
}

async fn read(soak: Arc<Soak>, cache: Cache<StoredProduct>, acknowledged: Acknowledged) -> u64 {
    let mut reads = 0;
    while !soak.over.load(Ordering::Relaxed) {
        let (index, id) = any_product();
        let at_least = acknowledged[index].load(Ordering::SeqCst);
        let load = || async {
            let row = soak.shop.load(id).await;
            a_while(1_500).await;
            row
        };
        let hit = cache.get(id, load).await.unwrap().unwrap();
        assert!(
            hit.version >= at_least,
            "product {id}: {hit:?} after {at_least} was acknowledged here"
        );
        let text = String::from_utf8(hit.body.to_vec()).unwrap();
        assert!(text.starts_with(&format!("{} {} ", hit.version, hit.stock)), "{text} in {hit:?}");
        if let Some((version, _)) = cache.stock_hint(id) {
            assert!(version >= at_least);
        }
        reads += 1;
        if reads % 8 == 0 {
            a_while(500).await;
        }
    }
    reads
}

/// Runs everything for a while, with `trouble` in the meantime.
async fn soak(
    redis: &Redis,
    op_timeout: Duration,
    trouble: impl AsyncFnOnce(&Soak, &[Cache<StoredProduct>]),
) {
    let shop = CacheFixture::new(4);
    let soak = Arc::new(Soak { shop, over: Arc::default(), history: Arc::default() });
    let settings = CacheSettings { op_timeout, ..settings(redis) };
    let replicas = [armed(settings.clone()).await, armed(settings.clone()).await];
    let mut tasks = JoinSet::new();
    for cache in &replicas {
        let acknowledged = Acknowledged::default();
        for _ in 0..3 {
            let (soak, cache, acknowledged) = (soak.clone(), cache.clone(), acknowledged.clone());
            tasks.spawn(async move {
                write(soak, cache, acknowledged).await;
                1
            });
        }
        for _ in 0..6 {
            tasks.spawn(read(soak.clone(), cache.clone(), acknowledged.clone()));
        }
    }
    // And a replica that has only what is in Redis.
    let onlooker = Cache::connect(CacheSettings { armed_for: Duration::ZERO, ..settings }).unwrap();
    until("connected", async || onlooker.gauges().redis_up).await;
    tasks.spawn(read(soak.clone(), onlooker.clone(), Acknowledged::default()));
    let all = [replicas[0].clone(), replicas[1].clone(), onlooker.clone()];
    trouble(&soak, &all).await;
    soak.over.store(true, Ordering::Relaxed);
    while let Some(done) = tasks.join_next().await {
        assert!(done.unwrap() > 0, "each task did something");
    }
    // When everything is quiet, all replicas show the newest version.
    for cache in &replicas {
        until("settled", async || cache.gauges().armed && cache.gauges().owed == 0).await;
    }
    for id in 1..=4 {
        let row = soak.shop.row(id).unwrap();
        assert!(row.version > 10, "hardly anything was written: {row:?}");
        // After the last fill and the last message about a commit.
        for cache in &all {
            let what = format!("{id} is shown as {row:?}");
            until(&what, async || soak.shop.get(cache, id).await.version == row.version).await;
        }
    }
    let stats = replicas[0].stats();
    for counter in [&stats.process_hits, &stats.misses, &stats.shared_loads, &stats.patches] {
        assert!(counter.get() > 0, "a path was not taken: {stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reader_sees_less_than_acknowledged_and_other_replicas_catch_up() {
    let redis = redis().await;
    // So that each call is answered in time, however busy the machine is.
    soak(&redis, Duration::from_secs(20), async |soak, replicas| {
        let end = Instant::now() + Duration::from_secs(4);
        while Instant::now() < end {
            // The subject is how old an answer may be; this is how often it is asked.
            sleep(Duration::from_millis(20)).await;
            // A change that was acknowledged two seconds ago is visible on all replicas, long before values expire.
            let old = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
            let history = soak.history.lock().clone();
            for (id, version, _) in history.into_iter().filter(|(_, _, at)| *at < old) {
                for cache in replicas {
                    assert!(soak.shop.get(cache, id).await.version >= version);
                }
            }
        }
        let errors: Vec<_> = replicas.iter().map(|r| r.stats().redis_errors.get()).collect();
        assert_eq!(errors, [0, 0, 0]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reader_sees_less_than_acknowledged_during_faults_of_redis() {
    let redis = redis().await;
    soak(&redis, Duration::from_millis(250), async |soak, replicas| {
        for round in 0..12 {
            a_while(300_000).await;
            match round % 4 {
                0 => redis.flush().await.unwrap(),
                1 => {
                    let kind = if round < 6 { "pubsub" } else { "normal" };
                    let kill = redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg(kind).to_owned();
                    // It may kill its own connection.
                    let _ = kill.exec_async(&mut raw(&redis).await).await;
                }
                2 => {
                    redis.pause().unwrap();
                    a_while(1_500_000).await;
                    redis.resume().unwrap();
                }
                _ => {
                    redis.kill9().await.unwrap();
                    // The outage itself.
                    sleep(Duration::from_millis(100)).await;
                    redis.restart().await.unwrap();
                }
            }
        }
        for cache in replicas {
            until("Redis is used again", async || cache.gauges().redis_up).await;
        }
        let written = soak.history.lock().len();
        until("writes continue", async || soak.history.lock().len() > written + 100).await;
    })
    .await;
}
