//! Redis that is stopped, hung, or restarted from disk.

use std::time::{Duration, Instant};

use holdfast_cache::{Cache, CacheSettings, Tier};
use holdfast_sandbox::{Redis, RedisOptions, until};

use crate::shop::{
    CacheFixture, StoredProduct, armed, keys, onlooker, raw, redis, replica, settings,
};

/// As in production, so that the measured times are realistic.
fn true_times(redis: &Redis) -> CacheSettings {
    CacheSettings::new(redis.url())
}

async fn timed_get(cache: &Cache<StoredProduct>, shop: &CacheFixture, id: i64) -> Duration {
    let start = Instant::now();
    shop.get(cache, id).await;
    start.elapsed()
}

async fn back(cache: &Cache<StoredProduct>) {
    until("Redis is used again", async || cache.gauges().redis_up).await;
    assert_eq!(cache.gauges().owed, 0);
}

#[tokio::test]
async fn a_redis_that_is_down_at_the_start_is_used_later() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    redis.kill9().await.unwrap();
    let cache = Cache::connect(settings(&redis)).unwrap();
    assert_eq!(shop.get(&cache, 1).await.tier, Tier::None);
    shop.order(&cache, 1).await;
    assert_eq!(cache.gauges().owed, 1);
    redis.restart().await.unwrap();
    back(&cache).await;
    until("cached", async || cache.gauges().armed).await;
    shop.get(&cache, 1).await;
    assert_eq!(shop.get(&cache, 1).await.tier, Tier::Process);
}

#[tokio::test]
async fn an_invalid_url_is_refused() {
    assert!(Cache::<StoredProduct>::connect(CacheSettings::new("http://example.org")).is_err());
}

#[tokio::test]
async fn a_hung_redis_costs_one_timeout_and_then_nothing() {
    let (redis, shop) = (redis().await, CacheFixture::new(200));
    let cache = armed(true_times(&redis)).await;
    until("it is in memory", async || shop.get(&cache, 1).await.tier == Tier::Process).await;
    redis.pause().unwrap();

    // One of the reads, or a tick, notices it.
    let first = timed_get(&cache, &shop, 2).await;
    assert!(first < Duration::from_secs(5), "{first:?}");
    until("given up", async || !cache.gauges().redis_up).await;
    let start = Instant::now();
    for id in 3..=200 {
        shop.get(&cache, id).await;
    }
    // 198 timeouts would be ten seconds.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let start = Instant::now();
    cache.raise(&[(1, 2)]).await.aborted();
    assert!(start.elapsed() < Duration::from_secs(5));

    // Another writer commits and cannot send a message.
    until("memory is not trusted", async || !cache.gauges().armed).await;
    shop.take_one(1);
    let hit = shop.get(&cache, 1).await;
    assert_eq!((hit.tier, hit.version), (Tier::None, 2));

    redis.resume().unwrap();
    back(&cache).await;
    until("armed", async || cache.gauges().armed).await;
}

#[tokio::test]
async fn memory_is_trusted_for_at_most_a_second_after_the_last_confirmation() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    let cache = armed(true_times(&redis)).await;
    shop.get(&cache, 1).await;
    redis.pause().unwrap();
    let paused = Instant::now();
    loop {
        // Before the read, which may be late on a busy machine.
        let asked = paused.elapsed();
        if shop.get(&cache, 1).await.tier != Tier::Process {
            break;
        }
        // How long it lasts is the subject.
        assert!(asked < Duration::from_millis(1_500), "{asked:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!cache.gauges().armed);
    redis.resume().unwrap();
}

#[tokio::test]
async fn changes_during_a_redis_hang_are_delivered_afterwards() {
    let (redis, shop) = (redis().await, CacheFixture::new(10));
    let (a, b) = (replica(&redis).await, replica(&redis).await);
    for id in 1..=10 {
        shop.get(&a, id).await;
        shop.get(&b, id).await;
    }
    until("filled", async || a.stats().fills.get() == 10).await;
    redis.pause().unwrap();
    until("given up", async || !a.gauges().redis_up).await;
    for id in 1..=9 {
        shop.order(&a, id).await;
        assert_eq!(shop.get(&a, id).await.version, 2);
    }
    assert_eq!(a.gauges().owed, 9, "none of these was sent");
    redis.resume().unwrap();
    back(&a).await;
    let c = onlooker(&redis).await;
    for id in 1..=9 {
        for cache in [&a, &b, &c] {
            assert_eq!(shop.get(cache, id).await.version, 2);
        }
    }
    assert_eq!(shop.get(&c, 10).await.tier, Tier::Redis, "what did not change is still there");
}

#[tokio::test]
async fn too_many_kept_changes_empty_redis_and_every_memory() {
    let (redis, shop) = (redis().await, CacheFixture::new(30));
    let mut few = settings(&redis);
    few.owed_limit = 3;
    let (a, b) = (armed(few).await, replica(&redis).await);
    for id in 1..=30 {
        shop.get(&b, id).await;
    }
    until("filled", async || b.stats().fills.get() == 30).await;
    let other = redis::cmd("SET").arg("not-ours").arg(1).to_owned();
    other.exec_async(&mut raw(&redis).await).await.unwrap();
    redis.pause().unwrap();
    until("given up", async || !a.gauges().redis_up).await;
    for id in 1..=20 {
        shop.order(&a, id).await;
    }
    assert_eq!(a.gauges().owed, 4, "one more than the limit stands for all");
    redis.resume().unwrap();
    back(&a).await;
    let c = onlooker(&redis).await;
    for id in 1..=20 {
        for cache in [&a, &b, &c] {
            assert_eq!(shop.get(cache, id).await.version, 2);
        }
    }
    let kept: i64 =
        redis::cmd("GET").arg("not-ours").query_async(&mut raw(&redis).await).await.unwrap();
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn a_redis_restarted_from_disk_does_not_restore_old_values() {
    let on_disk = RedisOptions {
        args: ["--save", "3600 100000"].map(str::to_owned).to_vec(),
        ..RedisOptions::default()
    };
    let redis = Redis::start(on_disk).await.unwrap();
    let shop = CacheFixture::new(1);
    let cache = replica(&redis).await;
    shop.get(&cache, 1).await;
    until("filled", async || cache.stats().fills.get() == 1).await;
    redis::cmd("SAVE").exec_async(&mut raw(&redis).await).await.unwrap();
    // Fenced, deleted, and forgotten.
    shop.order(&cache, 1).await;
    redis.kill9().await.unwrap();
    redis.restart().await.unwrap();
    let mut holds = Vec::new();
    // A key of the previous process, and possibly one of this process, which is already fenced.
    for key in keys(&redis).await {
        let value: Option<String> =
            redis::cmd("HGET").arg(key).arg("d").query_async(&mut raw(&redis).await).await.unwrap();
        holds.extend(value);
    }
    assert_eq!(holds, ["1 1000 product 1"], "the old value is back on the server");
    let onlooker = onlooker(&redis).await;
    assert_eq!(shop.get(&onlooker, 1).await.version, 2);
    back(&cache).await;
    assert_eq!(shop.get(&cache, 1).await.version, 2);
}

#[tokio::test]
async fn scripts_that_redis_has_forgotten_are_loaded_again() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    let cache = onlooker(&redis).await;
    let flush = redis::cmd("SCRIPT").arg("FLUSH").to_owned();
    flush.exec_async(&mut raw(&redis).await).await.unwrap();
    shop.get(&cache, 1).await;
    until("filled", async || cache.stats().fills.get() == 1).await;
    flush.exec_async(&mut raw(&redis).await).await.unwrap();
    shop.order(&cache, 1).await;
    assert_eq!(shop.get(&cache, 1).await.version, 2);
    assert_eq!(cache.stats().redis_errors.get(), 0);
}

#[tokio::test]
async fn shutdown_delivers_kept_invalidations_and_reads_continue() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    let (a, b) = (replica(&redis).await, replica(&redis).await);
    shop.get(&b, 1).await;
    shop.order(&a, 1).await;
    a.shutdown().await;
    until("the message arrives", async || b.stock_hint(1) == Some((2, 999))).await;
    assert_eq!(shop.get(&a, 1).await.version, 2);
    assert!(!a.gauges().armed);
}

#[tokio::test]
async fn a_fence_that_redis_refused_is_delivered_later() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    let cache = replica(&redis).await;
    shop.get(&cache, 1).await;
    until("filled", async || cache.stats().fills.get() == 1).await;
    let mut meddler = raw(&redis).await;
    // A replica of a master that does not exist: it can be read, and refuses writes.
    let refuse = redis::cmd("REPLICAOF").arg("127.0.0.1").arg(1).to_owned();
    refuse.exec_async(&mut meddler).await.unwrap();
    let raised = cache.raise(&[(1, 2)]).await;
    shop.take_one(1);
    std::mem::forget(raised); // so that nothing is said again after the commit
    assert_eq!(cache.gauges().owed, 1);
    let accept = redis::cmd("REPLICAOF").arg("NO").arg("ONE").to_owned();
    accept.exec_async(&mut meddler).await.unwrap();
    back(&cache).await;
    assert_eq!(shop.get(&onlooker(&redis).await, 1).await.version, 2);
}

#[tokio::test]
async fn after_an_outage_redis_is_written_at_once_but_read_only_after_others_could_write() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    let mut patient = settings(&redis);
    patient.quarantine = Duration::from_mins(5);
    let cache = armed(patient).await;
    redis.pause().unwrap();
    until("given up", async || !cache.gauges().redis_up).await;
    shop.order(&cache, 1).await;
    redis.resume().unwrap();
    until("handed in", async || cache.gauges().owed == 0).await;
    let owed = cache.stats().owed.get();
    shop.order(&cache, 1).await;
    assert_eq!(cache.stats().owed.get(), owed, "delivered by its caller again");
    until("the last proof has expired", async || !cache.gauges().armed).await;
    assert!(!cache.gauges().redis_up);
    assert_eq!(shop.get(&cache, 1).await.tier, Tier::None);
}

/// The queue of messages is limited. Messages that Redis does not accept fast enough are dropped and counted, and no
/// caller waits for them.
#[tokio::test]
async fn messages_beyond_the_limit_of_a_hung_redis_are_dropped_and_counted() {
    let redis = redis().await;
    let cache = armed(true_times(&redis)).await;
    redis.pause().unwrap();
    let start = Instant::now();
    for version in 2..10_000 {
        cache.changed(&[(1, version)]);
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(cache.stats().dropped.get() > 5_000, "{}", cache.stats().dropped.get());
}
