//! A database that returns to lower versions.

use holdfast_cache::{Cache, CacheSettings, StockChange};
use holdfast_sandbox::{Redis, until};

use crate::shop::{self, CacheFixture, StoredProduct, redis};

fn settings(redis: &Redis) -> CacheSettings {
    CacheSettings { waits_for_database: true, ..shop::settings(redis) }
}

async fn replica(redis: &Redis, database: &str) -> Cache<StoredProduct> {
    let cache = Cache::connect(settings(redis)).unwrap();
    cache.of_database(database);
    until("the cache is armed", async || cache.gauges().armed).await;
    cache
}

#[tokio::test]
async fn values_from_before_a_restore_are_not_shown() {
    let redis = redis().await;
    let later = CacheFixture::new(1);
    let (one, other) = (replica(&redis, "a").await, replica(&redis, "a").await);
    for _ in 0..5 {
        later.order(&one, 1).await;
    }
    assert_eq!(later.get(&one, 1).await.version, 6);
    until("the other has it from Redis", async || other.gauges().redis_up).await;
    assert_eq!(later.get(&other, 1).await.version, 6);

    // The same products, as they were.
    let restored = CacheFixture::new(1);
    for cache in [&one, &other] {
        cache.of_database("b");
        assert_eq!(restored.get(cache, 1).await.version, 1);
    }
    // A change is visible immediately, although its version is lower than before.
    restored.order(&one, 1).await;
    assert_eq!(restored.get(&one, 1).await.stock, 999);
    for cache in [&one, &other] {
        until("Redis is read again", async || cache.gauges().armed && cache.gauges().redis_up)
            .await;
        assert_eq!(restored.get(cache, 1).await.stock, 999);
    }
    // A new replica does not find earlier values either.
    let fresh = replica(&redis, "b").await;
    assert_eq!(restored.get(&fresh, 1).await.stock, 999);
}

#[tokio::test]
async fn identifying_the_same_database_again_changes_nothing() {
    let redis = redis().await;
    let shop = CacheFixture::new(1);
    let cache = replica(&redis, "a").await;
    shop.get(&cache, 1).await;
    let resets = cache.stats().resets.get();
    for _ in 0..3 {
        cache.of_database("a");
    }
    assert_eq!(cache.stats().resets.get(), resets);
    assert!(cache.gauges().redis_up);
}

#[tokio::test]
async fn redis_is_not_used_before_the_database_is_identified() {
    let redis = redis().await;
    let shop = CacheFixture::new(1);
    let cache = Cache::<StoredProduct>::connect(settings(&redis)).unwrap();
    shop.order(&cache, 1).await;
    assert_eq!(shop.get(&cache, 1).await.version, 2);
    assert!(!cache.gauges().redis_up);
    assert_eq!(cache.gauges().owed, 1, "it is delivered later");
    cache.of_database("a");
    until("Redis is used", async || cache.gauges().redis_up).await;
    assert_eq!(cache.gauges().owed, 0);
}

#[tokio::test]
async fn a_late_message_about_a_commit_before_the_restore_is_ignored() {
    let redis = redis().await;
    let restored = CacheFixture::new(1);
    let cache = replica(&redis, "a").await;
    let (sold, changed) = (cache.raise(&[(1, 7)]).await, cache.raise(&[(1, 8)]).await);
    let unknown = cache.raise(&[(1, 9)]).await;
    cache.of_database("b");
    let change = StockChange { id: 1, previous_version: 6, version: 7, stock: 5 };
    sold.committed(&[change]);
    changed.changed();
    drop(unknown);
    assert_eq!(cache.stock_hint(1), None);
    until("Redis is read again", async || cache.gauges().armed && cache.gauges().redis_up).await;
    for _ in 0..2 {
        let hit = restored.get(&cache, 1).await;
        assert_eq!((hit.version, hit.stock), (1, 1000));
    }
    assert_eq!(cache.stock_hint(1), Some((1, 1000)), "it is kept in memory");
}
