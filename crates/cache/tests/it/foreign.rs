//! Other programs that write to the keys of products.

use holdfast_cache::Tier;
use holdfast_sandbox::until;

use crate::shop::{CacheFixture, keys, onlooker, raw, redis};

#[tokio::test]
async fn the_cache_survives_foreign_writes_to_its_keys() {
    for poison in [
        "SET {} x",
        "RPUSH {} x",
        "ZADD {} 1 x",
        "XADD {} * a b",
        "HSET {} f x",
        "HSET {} v x",
        "HSET {} t x",
        "HSET {} d x v x f x n x t x",
        "HDEL {} v",
    ] {
        let (redis, shop) = (redis().await, CacheFixture::new(2));
        // Without the memory, each read goes to Redis.
        let cache = onlooker(&redis).await;
        let cached = async |id| shop.get(&cache, id).await.tier == Tier::Redis;
        for first in ["a read", "an order"] {
            until("both are in Redis", async || cached(1).await && cached(2).await).await;
            let all = keys(&redis).await;
            let key = all.iter().find(|key| key.contains("product:1}")).unwrap();
            let other_type = !poison.starts_with('H');
            let mut raw = raw(&redis).await;
            if other_type {
                redis::cmd("DEL").arg(key).exec_async(&mut raw).await.unwrap();
            }
            let words: Vec<_> = poison.split(' ').map(|word| word.replace("{}", key)).collect();
            redis::cmd(&words[0]).arg(&words[1..]).exec_async(&mut raw).await.unwrap();
            if first == "an order" {
                shop.order(&cache, 1).await;
            }
            let shown = shop.get(&cache, 1).await;
            let body = String::from_utf8(shown.body.to_vec()).unwrap();
            assert!(body.contains("product 1"), "{poison}: {body}");
            // Redis is still used, for this product as well.
            shop.order(&cache, 1).await;
            until(&format!("it is in Redis again after {poison} and {first}"), async || {
                cached(1).await && cached(2).await
            })
            .await;
            let gauges = cache.gauges();
            assert!(gauges.redis_up && gauges.owed == 0, "{poison} and {first}");
        }
    }
}
