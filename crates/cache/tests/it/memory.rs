//! The limit of the process's memory.

use holdfast_cache::Tier;

use crate::shop::{CacheFixture, armed, redis, settings};

#[tokio::test]
async fn memory_stays_bounded_and_a_hot_product_stays_in_it() {
    let (redis, shop) = (redis().await, CacheFixture::new(4_000));
    let mut settings = settings(&redis);
    settings.l1_bytes = 256 << 10;
    let cache = armed(settings).await;
    for _ in 0..3 {
        assert_eq!(shop.get(&cache, 1).await.version, 1);
    }
    for id in 2..=4_000 {
        shop.get(&cache, id).await;
        if id % 10 == 0 {
            shop.get(&cache, 1).await;
        }
    }
    let gauges = cache.gauges();
    assert!(gauges.process_bytes <= 256 << 10, "{gauges:?}");
    assert!(gauges.process_entries >= 100, "{gauges:?}");
    assert_eq!(shop.get(&cache, 1).await.tier, Tier::Process);
    let loads = shop.loads();
    for id in 1..=4_000 {
        shop.get(&cache, id).await;
    }
    assert!(shop.loads() - loads < 4_000, "what was driven out is still in Redis");
}

#[tokio::test]
async fn the_stock_of_an_ordered_product_is_cached_without_a_read() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    let cache = armed(settings(&redis)).await;
    assert_eq!(cache.stock_hint(1), None);
    shop.order(&cache, 1).await;
    assert_eq!(cache.stock_hint(1), Some((2, 999)));
}

#[tokio::test]
async fn a_long_body_weighs_more() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    shop.rename(1, &"x".repeat(10_000));
    let cache = armed(settings(&redis)).await;
    shop.get(&cache, 1).await;
    let gauges = cache.gauges();
    assert!(gauges.process_bytes > 10_000, "{gauges:?}");
}
