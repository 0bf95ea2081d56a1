//! Concurrent misses share one load.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use holdfast_cache::Tier;
use tokio::sync::{Notify, Semaphore};

use crate::shop::{CacheFixture, StoredProduct, redis, replica};
use holdfast_sandbox::until;

#[tokio::test]
async fn concurrent_misses_load_once() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    let cache = replica(&redis).await;
    let go = Arc::new(Semaphore::new(0));
    let reads: Vec<_> = (0..64)
        .map(|_| {
            let (cache, shop, go) = (cache.clone(), shop.clone(), go.clone());
            tokio::spawn(async move {
                let load = || async {
                    let _go = go.acquire().await.unwrap();
                    shop.load(1).await
                };
                cache.get(1, load).await.unwrap().unwrap()
            })
        })
        .collect();
    until("one loads", async || cache.stats().misses.get() == 1).await;
    tokio::task::yield_now().await;
    go.add_permits(1);
    for read in reads {
        assert_eq!(read.await.unwrap().body, "1 1000 product 1");
    }
    assert_eq!(shop.loads(), 1);
}

#[tokio::test]
async fn followers_of_a_cancelled_leader_are_not_stranded() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    let cache = replica(&redis).await;
    let leader = tokio::spawn({
        let cache = cache.clone();
        async move {
            let never = || std::future::pending::<Result<Option<StoredProduct>, Infallible>>();
            cache.get(1, never).await.map(|_| ())
        }
    });
    until("the leader loads", async || cache.stats().misses.get() == 1).await;
    let followers: Vec<_> = (0..8)
        .map(|_| {
            let (cache, shop) = (cache.clone(), shop.clone());
            tokio::spawn(async move { shop.get(&cache, 1).await })
        })
        .collect();
    tokio::task::yield_now().await;
    leader.abort();
    for follower in followers {
        let answered = tokio::time::timeout(Duration::from_secs(10), follower).await;
        assert_eq!(answered.expect("stranded").unwrap().version, 1);
    }
    assert_eq!(shop.loads(), 1, "one of them took over for all");
}

#[tokio::test]
async fn a_failure_reaches_all_waiting_readers_and_no_later_ones() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    let cache = replica(&redis).await;
    let go = Arc::new(Notify::new());
    let reads: Vec<_> = (0..8)
        .map(|_| {
            let (cache, go) = (cache.clone(), go.clone());
            tokio::spawn(async move {
                let fail = || async {
                    go.notified().await;
                    Err::<Option<StoredProduct>, _>(std::io::Error::other("the database is away"))
                };
                cache.get(1, fail).await
            })
        })
        .collect();
    until("one loads", async || cache.stats().misses.get() == 1).await;
    tokio::task::yield_now().await;
    go.notify_one();
    for read in reads {
        let error = read.await.unwrap().unwrap_err();
        assert!(error.downcast_ref::<std::io::Error>().is_some());
    }
    assert_eq!(cache.stats().misses.get(), 1);
    assert_eq!(shop.get(&cache, 1).await.tier, Tier::None);
}

#[tokio::test]
async fn a_read_after_a_change_does_not_get_an_earlier_load() {
    let (redis, shop) = (redis().await, CacheFixture::new(2));
    let cache = replica(&redis).await;
    for (id, renamed) in [(1, true), (2, false)] {
        let (has_read, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let early = tokio::spawn({
            let (cache, shop) = (cache.clone(), shop.clone());
            let (has_read, go) = (has_read.clone(), go.clone());
            async move {
                let slow = || async {
                    let row = shop.load(id).await;
                    has_read.notify_one();
                    go.notified().await;
                    row
                };
                cache.get(id, slow).await.unwrap().unwrap()
            }
        });
        has_read.notified().await;
        if renamed {
            let raised = cache.raise(&[(id, 2)]).await;
            shop.rename(id, "new");
            raised.changed();
        } else {
            shop.order(&cache, id).await;
        }
        let late = tokio::spawn({
            let (cache, shop) = (cache.clone(), shop.clone());
            async move { shop.get(&cache, id).await }
        });
        tokio::task::yield_now().await;
        go.notify_one();
        // A stock change is patched into what was read before it.
        assert_eq!(early.await.unwrap().version, if renamed { 1 } else { 2 });
        assert_eq!(late.await.unwrap().version, 2);
        assert_eq!(shop.get(&cache, id).await.version, 2);
    }
}

#[tokio::test]
async fn a_missing_product_is_not_cached() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    let cache = replica(&redis).await;
    for _ in 0..3 {
        assert!(cache.get(7, || shop.load(7)).await.unwrap().is_none());
    }
    assert_eq!(shop.loads(), 3);
    assert_eq!(cache.gauges().process_entries, 0);
}
