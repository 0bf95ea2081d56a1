//! Two replicas that share a Redis.

use std::time::Duration;

use holdfast_cache::Tier;

use crate::shop::{CacheFixture, armed, raw, redis, replica, settings};
use holdfast_sandbox::until;

#[tokio::test]
async fn the_writer_shows_the_old_value_until_its_commit_and_the_new_one_after() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    let writer = replica(&redis).await;
    shop.get(&writer, 1).await;
    assert_eq!(writer.stock_hint(1), Some((1, 1_000)));
    let raised = writer.raise(&[(1, 2)]).await;
    let hit = shop.get(&writer, 1).await;
    assert_eq!((hit.tier, hit.version), (Tier::Process, 1), "still true");
    raised.committed(&[shop.take_one(1)]);
    let hit = shop.get(&writer, 1).await;
    assert_eq!((hit.tier, hit.version, hit.stock), (Tier::Process, 2, 999));
    assert_eq!(hit.body, "2 999 product 1");
    assert_eq!(writer.stock_hint(1), Some((2, 999)));
    assert_eq!(shop.loads(), 1, "patched, not loaded");
}

#[tokio::test]
async fn a_replica_suspends_its_value_at_the_fence_and_restores_it_patched() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    let (a, b) = (replica(&redis).await, replica(&redis).await);
    shop.get(&b, 1).await;
    assert_eq!(shop.get(&b, 1).await.tier, Tier::Process);

    let raised = a.raise(&[(1, 2)]).await;
    until("the fence arrives", async || b.stock_hint(1).is_none()).await;
    let hit = shop.get(&b, 1).await;
    assert_eq!((hit.tier, hit.version), (Tier::None, 1), "asks the database");

    raised.committed(&[shop.take_one(1)]);
    until("the message arrives", async || b.stock_hint(1) == Some((2, 999))).await;
    let loads = shop.loads();
    let hit = shop.get(&b, 1).await;
    assert_eq!((hit.tier, hit.version, hit.stock), (Tier::Process, 2, 999));
    assert_eq!(hit.body, "2 999 product 1");
    assert_eq!(shop.loads(), loads, "patched, not loaded");
    assert_eq!(b.stats().patches.get(), 1);
}

#[tokio::test]
async fn a_writer_killed_after_its_commit_leaves_no_old_value_at_another_replica() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    let (a, b) = (replica(&redis).await, replica(&redis).await);
    shop.get(&b, 1).await;
    let raised = a.raise(&[(1, 2)]).await;
    shop.take_one(1);
    std::mem::forget(raised);
    until("the fence arrives", async || b.stock_hint(1).is_none()).await;
    assert_eq!(shop.get(&b, 1).await.version, 2);
    assert_eq!(shop.get(&b, 1).await.tier, Tier::Process, "and is cached again at once");
}

#[tokio::test]
async fn the_writers_memory_does_not_hide_a_commit_of_unknown_outcome() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    let a = replica(&redis).await;
    shop.get(&a, 1).await;
    let raised = a.raise(&[(1, 2)]).await;
    shop.take_one(1);
    drop(raised);
    assert_eq!(a.stock_hint(1), None);
    assert_eq!(shop.get(&a, 1).await.version, 2);
}

#[tokio::test]
async fn other_changes_are_read_again_on_all_replicas() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    let (a, b) = (replica(&redis).await, replica(&redis).await);
    shop.get(&a, 1).await;
    shop.get(&b, 1).await;
    let raised = a.raise(&[(1, 2)]).await;
    let (_, version) = shop.rename(1, "new");
    raised.changed();
    assert_eq!(version, 2);
    assert_eq!(shop.get(&a, 1).await.body, "2 1000 new");
    until("the message arrives", async || b.stock_hint(1).is_none()).await;
    assert_eq!(shop.get(&b, 1).await.body, "2 1000 new");
    // A stock change right after it is not patched onto the value from before the other change.
    let (c, d) = (replica(&redis).await, replica(&redis).await);
    shop.get(&d, 1).await;
    let raised = c.raise(&[(1, 3)]).await;
    shop.rename(1, "newer");
    std::mem::forget(raised); // the message about it is lost
    shop.order(&c, 1).await;
    until("the message arrives", async || d.stats().peer_changes.get() >= 3).await;
    assert_eq!(shop.get(&d, 1).await.body, "4 999 newer");
}

#[tokio::test]
async fn two_writers_of_one_product_keep_both_caches_filled() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    let (a, b) = (replica(&redis).await, replica(&redis).await);
    shop.get(&a, 1).await;
    shop.get(&b, 1).await;
    let loads = shop.loads();
    for _ in 0..200 {
        shop.order(&a, 1).await;
        shop.order(&b, 1).await;
    }
    // The message about one change arrives late, between those of the other writer, and the ranges are still joined.
    until("a has heard", async || a.stock_hint(1) == Some((401, 600))).await;
    until("b has received it", async || b.stock_hint(1) == Some((401, 600))).await;
    for cache in [&a, &b] {
        let hit = shop.get(cache, 1).await;
        assert_eq!((hit.tier, hit.version), (Tier::Process, 401));
        assert_eq!(hit.body, "401 600 product 1");
    }
    assert_eq!(shop.loads(), loads, "nothing was loaded");
}

#[tokio::test]
async fn a_message_of_a_later_release_empties_the_memory() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    let cache = replica(&redis).await;
    shop.get(&cache, 1).await;
    let publish = redis::cmd("PUBLISH").arg("holdfast:product:changes").arg("x what 1").to_owned();
    publish.exec_async(&mut raw(&redis).await).await.unwrap();
    until("emptied", async || cache.stock_hint(1).is_none()).await;
    assert_eq!(shop.get(&cache, 1).await.tier, Tier::Redis);
}

#[tokio::test]
async fn a_broken_subscription_empties_the_memory_until_it_is_confirmed_again() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    let (a, b) = (replica(&redis).await, replica(&redis).await);
    for round in 0..5 {
        shop.get(&b, 1).await;
        let resets = b.stats().resets.get();
        let kill = redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").to_owned();
        kill.exec_async(&mut raw(&redis).await).await.unwrap();
        // Replica b gets no message about this.
        let version = shop.order(&a, 1).await;
        until("b notices", async || b.stats().resets.get() > resets).await;
        until("b is armed again", async || {
            assert!(b.stock_hint(1).is_none(), "round {round}: forgotten");
            b.gauges().armed
        })
        .await;
        assert_eq!(shop.get(&b, 1).await.version, version);
    }
}

#[tokio::test]
async fn a_broken_subscription_is_noticed_before_its_trust_expires() {
    let (redis, shop) = (redis().await, CacheFixture::new(1));
    let mut settings = settings(&redis);
    settings.armed_for = Duration::from_mins(5);
    settings.retry_interval = Duration::from_mins(5);
    let cache = armed(settings).await;
    shop.get(&cache, 1).await;
    let kill = redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").to_owned();
    kill.exec_async(&mut raw(&redis).await).await.unwrap();
    until("noticed", async || !cache.gauges().armed).await;
    assert_ne!(shop.get(&cache, 1).await.tier, Tier::Process);
}
