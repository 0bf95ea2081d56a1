//! Another server becomes the primary, and products in a cluster.

use std::time::{Duration, Instant};

use holdfast_cache::{Cache, CacheSettings, Tier};
use holdfast_sandbox::{RedisCluster, RedisSentinels, until};

use crate::shop::{CacheFixture, StoredProduct, armed};

fn settings(url: String) -> CacheSettings {
    // On a busy machine, a call may take longer than in production.
    CacheSettings { op_timeout: Duration::from_secs(1), ..CacheSettings::new(url) }
}

/// Waits until the second one shows a change of the first one from its memory, without loading it.
async fn until_heard(shop: &CacheFixture, from: &Cache<StoredProduct>, to: &Cache<StoredProduct>) {
    until("the other replica is told", async || {
        if !(from.gauges().redis_up && to.gauges().redis_up && to.gauges().armed) {
            return Err("not connected".to_owned());
        }
        shop.get(to, 1).await;
        let version = shop.order(from, 1).await;
        let deadline = Instant::now() + Duration::from_millis(500);
        while to.stock_hint(1).is_none_or(|(known, _)| known < version) {
            if Instant::now() > deadline {
                return Err(format!("{:?} is not {version}", to.stock_hint(1)));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let hit = shop.get(to, 1).await;
        if hit.tier == Tier::Process { Ok(()) } else { Err(format!("{:?}", hit.tier)) }
    })
    .await;
}

#[tokio::test]
async fn replicas_tell_each_other_of_changes_again_after_a_failover() {
    let group = RedisSentinels::start(&[], "").await.unwrap();
    group.until_complete("").await;
    let shop = CacheFixture::new(1);
    let settings = settings(group.url());
    let (a, b) = (armed(settings.clone()).await, armed(settings.clone()).await);
    until_heard(&shop, &a, &b).await;
    let first = group.servers()[0].port();
    group.servers()[0].pause().unwrap();
    let max_age = settings.max_age;
    until("another server is the primary, and no answer is older than it may be", async || {
        let before = shop.row(1).unwrap().version;
        // The other replica changes the product, and cannot say so.
        shop.order(&a, 1).await;
        let asked = Instant::now();
        while shop.get(&b, 1).await.version <= before {
            assert!(asked.elapsed() < max_age + Duration::from_secs(5), "stale");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        group.primary().await.is_ok_and(|primary| primary.port() != first)
    })
    .await;
    until_heard(&shop, &a, &b).await;
    until_heard(&shop, &b, &a).await;
    // The old primary goes on, and is made a replica a little later.
    group.servers()[0].resume().unwrap();
    until_heard(&shop, &a, &b).await;
}

#[tokio::test]
async fn the_products_of_a_cluster_are_on_one_server_of_it() {
    let cluster = RedisCluster::start().await.unwrap();
    let shop = CacheFixture::new(200);
    let mut settings = settings(cluster.url());
    let (a, b) = (armed(settings.clone()).await, armed(settings.clone()).await);
    // One that has no memory reads them from Redis.
    settings.armed_for = Duration::ZERO;
    settings.max_age = Duration::from_mins(1);
    let onlooker = Cache::connect(settings).unwrap();
    until("connected", async || onlooker.gauges().redis_up).await;
    until("products are in Redis", async || {
        for id in 1..=200 {
            shop.get(&a, id).await;
        }
        shop.get(&onlooker, 7).await.tier == Tier::Redis
    })
    .await;
    // Fences of many products in one call.
    let fences: Vec<_> = (1..=200).map(|id| (id, 2)).collect();
    until("they are delivered", async || {
        b.raise(&fences).await.aborted();
        b.gauges().redis_up && b.gauges().owed == 0
    })
    .await;
    until_heard(&shop, &a, &b).await;
}
