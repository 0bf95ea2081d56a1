//! A slow reader must not restore an old value.

use std::sync::Arc;
use std::time::Duration;

use holdfast_cache::{Cache, Tier};
use holdfast_sandbox::{Redis, until};
use tokio::sync::Notify;

use crate::shop::{CacheFixture, StoredProduct, keys, onlooker, raw, redis, replica, settings};

/// A reader that has read the row and is delayed before its fill.
struct SlowReader {
    task: tokio::task::JoinHandle<holdfast_cache::Hit>,
    go: Arc<Notify>,
}

async fn slow_reader(cache: &Cache<StoredProduct>, shop: &CacheFixture) -> SlowReader {
    let (has_read, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (cache, shop) = (cache.clone(), shop.clone());
    let (told, wait) = (has_read.clone(), go.clone());
    let task = tokio::spawn(async move {
        let slow = || async {
            let row = shop.load(1).await;
            told.notify_one();
            wait.notified().await;
            row
        };
        cache.get(1, slow).await.unwrap().unwrap()
    });
    has_read.notified().await;
    SlowReader { task, go }
}

impl SlowReader {
    async fn finish(self) -> holdfast_cache::Hit {
        self.go.notify_one();
        self.task.await.unwrap()
    }
}

async fn refused(cache: &Cache<StoredProduct>) {
    until("the fill is refused", async || cache.stats().fill_refusals.get() == 1).await;
    assert_eq!(cache.stats().fills.get(), 0);
}

async fn until_nothing_is_left(redis: &Redis) {
    until("all keys have expired", async || keys(redis).await.is_empty()).await;
}

async fn assert_redis_holds_no_value(redis: &Redis, shop: &CacheFixture) {
    let hit = shop.get(&onlooker(redis).await, 1).await;
    assert_eq!((hit.tier, hit.version), (Tier::None, shop.row(1).unwrap().version));
}

#[tokio::test]
async fn without_a_race_a_fill_is_kept_for_five_minutes() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    let reader = replica(&redis).await;
    assert_eq!(slow_reader(&reader, &shop).await.finish().await.tier, Tier::None);
    until("filled", async || reader.stats().fills.get() == 1).await;
    let hit = shop.get(&onlooker(&redis).await, 1).await;
    assert_eq!((hit.tier, hit.version, hit.stock), (Tier::Redis, 1, 1_000));
    assert_eq!(hit.body, "1 1000 product 1");
    let key = keys(&redis).await.remove(0);
    let ttl: i64 = redis::cmd("PTTL").arg(key).query_async(&mut raw(&redis).await).await.unwrap();
    assert!((240_000..=300_000).contains(&ttl), "{ttl} ms");
}

#[tokio::test]
async fn a_reader_from_before_the_commit_cannot_fill_after_it() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    let (reader, writer) = (replica(&redis).await, replica(&redis).await);
    let slow = slow_reader(&reader, &shop).await;
    let raised = writer.raise(&[(1, 2)]).await;
    shop.take_one(1);
    // It is killed right after its commit, so it sends no message.
    std::mem::forget(raised);
    assert_eq!(slow.finish().await.version, 1, "it began before the commit");
    refused(&reader).await;
    assert_redis_holds_no_value(&redis, &shop).await;
    assert_eq!(shop.get(&reader, 1).await.version, 2);
}

#[tokio::test]
async fn a_reader_from_between_raise_and_commit_cannot_fill_either() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    let (reader, writer) = (replica(&redis).await, replica(&redis).await);
    let raised = writer.raise(&[(1, 2)]).await;
    let slow = slow_reader(&reader, &shop).await;
    shop.take_one(1);
    std::mem::forget(raised);
    assert_eq!(slow.finish().await.version, 1);
    refused(&reader).await;
    assert_redis_holds_no_value(&redis, &shop).await;
    assert_eq!(shop.get(&reader, 1).await.version, 2, "nor keep it in memory");
}

#[tokio::test]
async fn a_reader_from_before_redis_was_emptied_cannot_fill() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    let (reader, writer) = (replica(&redis).await, replica(&redis).await);
    let slow = slow_reader(&reader, &shop).await;
    let raised = writer.raise(&[(1, 2)]).await;
    shop.take_one(1);
    std::mem::forget(raised);
    redis.flush().await.unwrap();
    slow.finish().await;
    refused(&reader).await;
    assert_redis_holds_no_value(&redis, &shop).await;
}

#[tokio::test]
async fn an_old_value_that_an_emptied_redis_accepted_is_gone_after_the_write() {
    for renamed in [false, true] {
        let (redis, shop) = (redis().await, CacheFixture::new(1));
        let (reader, writer) = (replica(&redis).await, replica(&redis).await);
        let raised = writer.raise(&[(1, 2)]).await;
        redis.flush().await.unwrap();
        assert_eq!(shop.get(&reader, 1).await.version, 1);
        until("the old value is accepted", async || reader.stats().fills.get() == 1).await;
        if renamed {
            shop.rename(1, "new");
            raised.changed();
        } else {
            raised.committed(&[shop.take_one(1)]);
        }
        writer.shutdown().await; // everything is sent
        assert_redis_holds_no_value(&redis, &shop).await;
    }
}

#[tokio::test]
async fn a_reader_whose_lease_has_expired_cannot_fill() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    let mut settings = settings(&redis);
    settings.lease = Duration::from_millis(30);
    let reader = crate::shop::armed(settings).await;
    let slow = slow_reader(&reader, &shop).await;
    until_nothing_is_left(&redis).await;
    slow.finish().await;
    refused(&reader).await;
    assert_redis_holds_no_value(&redis, &shop).await;
}

#[tokio::test]
async fn a_fence_and_a_value_expire_and_the_product_is_cached_again() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    let mut settings = settings(&redis);
    settings.ttl = Duration::from_secs(1);
    settings.max_age = Duration::from_secs(1);
    let cache = crate::shop::armed(settings).await;
    // The transaction fails, so version 2 never exists.
    cache.raise(&[(1, 2)]).await.aborted();
    assert_eq!(shop.get(&cache, 1).await.tier, Tier::None);
    refused(&cache).await;
    until_nothing_is_left(&redis).await;
    assert_eq!(shop.get(&cache, 1).await.tier, Tier::None);
    until("cached again", async || cache.stats().fills.get() == 1).await;
    assert_eq!(shop.get(&cache, 1).await.tier, Tier::Process);
    // When it is too old, the value is read again, although there was no message.
    until("it is read again", async || {
        shop.get(&cache, 1).await;
        shop.loads() == 3
    })
    .await;
}

#[tokio::test]
async fn a_full_redis_accepts_no_values_but_old_ones_are_deleted() {
    let (redis, shop) = (redis().await, CacheFixture::new(2));
    let cache = onlooker(&redis).await;
    shop.get(&cache, 1).await;
    until("filled", async || cache.stats().fills.get() == 1).await;
    let mut meddler = raw(&redis).await;
    let full = redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(1).to_owned();
    full.exec_async(&mut meddler).await.unwrap();
    assert_eq!(shop.get(&cache, 1).await.tier, Tier::Redis, "still read");
    shop.order(&cache, 1).await;
    let hit = shop.get(&cache, 1).await;
    assert_eq!((hit.tier, hit.version), (Tier::None, 2));
    assert_eq!(shop.get(&cache, 2).await.tier, Tier::None);
    assert_eq!(cache.stats().redis_errors.get(), 0, "no reason to give Redis up");
}
