//! Counts that replicas share, with a real Redis.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods)] // tests index values that they have created

use std::time::{Duration, Instant};

use holdfast_sandbox::{PATIENCE, Redis, RedisCluster, RedisOptions, RedisSentinels, until};
use holdfast_throttle::{Throttle, ThrottleSettings};

fn settings(redis: &Redis) -> ThrottleSettings {
    settings_at(redis.url())
}

fn settings_at(redis_url: String) -> ThrottleSettings {
    ThrottleSettings {
        redis_url,
        redis_ca: None,
        op_timeout: Duration::from_millis(500),
        exchange: Duration::from_millis(20),
    }
}

/// Sends with both until one is refused. Returns the number of allowed requests, and whether one was refused.
async fn allowed(one: &Throttle, other: &Throttle, limit: u32, patience: Duration) -> (u32, bool) {
    let (begun, mut allowed) = (Instant::now(), 0);
    // Slowly enough that the replicas exchange their counts before the limit is reached. Late ones follow at once, so that
    // a busy machine sends as many in a second.
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    while begun.elapsed() < patience {
        for throttle in [one, other] {
            if !throttle.count("key:a", limit).allowed {
                return (allowed, true);
            }
            allowed += 1;
        }
        ticks.tick().await;
    }
    (allowed, false)
}

#[tokio::test]
async fn two_replicas_share_one_limit() {
    let redis = Redis::start(RedisOptions::default()).await.unwrap();
    let (one, other) =
        (Throttle::start(&settings(&redis)).unwrap(), Throttle::start(&settings(&redis)).unwrap());
    // One replica alone would allow 100 in a second; together they may allow that many, and those that one interval
    // hides.
    let (sent, refused) = allowed(&one, &other, 100, PATIENCE).await;
    assert!(refused, "{sent} were allowed and none was refused");
    // Another caller is not affected.
    assert!(one.count("key:b", 1).allowed);
}

#[tokio::test]
async fn without_redis_each_replica_enforces_the_limit_alone() {
    let redis = Redis::start(RedisOptions::default()).await.unwrap();
    let throttle = Throttle::start(&settings(&redis)).unwrap();
    redis.shutdown().await.unwrap();
    let begun = Instant::now();
    let refused = loop {
        let allowance = throttle.count("key:a", 1_000);
        if !allowance.allowed {
            break allowance;
        }
        assert!(begun.elapsed() < PATIENCE, "never refused");
    };
    assert_eq!((refused.limit, refused.left), (1_000, 0));
    // In the next second, requests are allowed again.
    until("it is allowed again", async || throttle.count("key:a", 1_000).allowed).await;
}

#[tokio::test]
async fn counting_starts_when_redis_accepts_the_password() {
    let redis = Redis::start(RedisOptions::default()).await.unwrap();
    redis.command("CONFIG SET requirepass of-yesterday").await.unwrap();
    let mut settings = settings(&redis);
    settings.redis_url = settings.redis_url.replacen("redis://", "redis://:of-today@", 1);
    let throttle = Throttle::start(&settings).unwrap();
    until("it is refused", async || {
        throttle.count("key:a", 1_000);
        let errors = redis.command("AUTH of-yesterday\r\nINFO errorstats").await.unwrap();
        errors.contains("errorstat_WRONGPASS")
    })
    .await;
    redis.command("AUTH of-yesterday\r\nCONFIG SET requirepass of-today").await.unwrap();
    until("its counts reach Redis", async || {
        throttle.count("key:a", 1_000);
        let counted = redis.command("AUTH of-today\r\nKEYS holdfast:rate:*").await.unwrap();
        counted.contains("key:a").then_some(()).ok_or(counted)
    })
    .await;
}

#[tokio::test]
async fn a_foreign_write_to_a_key_affects_only_its_caller() {
    let redis = Redis::start(RedisOptions::default()).await.unwrap();
    // For this second and the next ones.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for second in now..now + 30 {
        redis.command(&format!("RPUSH holdfast:rate:{second}:key:a x")).await.unwrap();
    }
    let throttle = Throttle::start(&settings(&redis)).unwrap();
    let begun = Instant::now();
    // Counts that were sent repeatedly would soon exceed the limit.
    while begun.elapsed() < Duration::from_secs(2) {
        throttle.count("key:a", 1_000);
        let other = throttle.count("key:b", 1_000);
        assert!(other.allowed, "{other:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let keys = redis.command("KEYS holdfast:rate:*:key:b").await.unwrap();
    assert!(keys.contains("key:b"), "{keys}");
}

#[tokio::test]
async fn replicas_share_one_limit_again_after_a_failover() {
    let group = RedisSentinels::start(&[], "").await.unwrap();
    group.until_complete("").await;
    let settings = settings_at(group.url());
    let (one, other) = (Throttle::start(&settings).unwrap(), Throttle::start(&settings).unwrap());
    let (sent, refused) = allowed(&one, &other, 100, PATIENCE).await;
    assert!(refused, "{sent} were allowed and none was refused");
    group.servers()[0].kill9().await.unwrap();
    // Each alone would need many more calls: half of them are sent by the other.
    until("they share the limit again", async || {
        let before = group.primary().await.ok()?.command("KEYS holdfast:rate:*").await.ok()?;
        one.count("key:after", 1_000);
        before.contains("key:after").then_some(())
    })
    .await;
    let (sent, refused) = allowed(&one, &other, 100, PATIENCE).await;
    assert!(refused, "{sent} were allowed and none was refused");
}

#[tokio::test]
async fn the_counts_of_a_cluster_are_on_one_server_of_it() {
    let cluster = RedisCluster::start().await.unwrap();
    let settings = settings_at(cluster.url());
    let throttle = Throttle::start(&settings).unwrap();
    until("counts of many callers are in Redis", async || {
        for caller in 0..50 {
            throttle.count(&format!("key:{caller}"), 1_000);
        }
        let mut found = 0;
        for server in cluster.servers() {
            let keys = server.command("KEYS holdfast:{rates}:*").await.ok()?;
            found = found.max(keys.matches("key:").count());
        }
        (found >= 50).then_some(())
    })
    .await;
}
