//! The age of reads, also if replicas use different Redis servers.

use std::time::{Duration, Instant};

use holdfast_sandbox::{Process, Proxy, until};
use serde_json::{Value, json};

use crate::{
    client::Client,
    server::{self, Server},
};

/// The maximum age of an answer in these tests, far below the lifetime of values in Redis.
const MAX_AGE: &str = "500";

/// A replica with Redis, and one whose connection to Redis can be cut.
struct Replicas {
    here: Server,
    there: Client,
    redis: Proxy,
    _process: Process,
}

async fn replicas() -> Replicas {
    let settings = [("HOLDFAST_CACHE_MAX_AGE_MS", MAX_AGE)];
    let here = Server::with(&settings).await;
    let redis = Proxy::start(([127, 0, 0, 1], here.redis.port()).into()).await.unwrap();
    let url = format!("redis://{}", redis.address());
    let process = server::spawn(&here.database_url, &url, &settings).await;
    let [address, ..] = server::addresses(&process).await;
    let there = Client::new(&address);
    here.until("the other is ready", async || there.get("/readyz").await.status == 200).await;
    Replicas { here, there, redis, _process: process }
}

impl Replicas {
    /// Reads a product here until it comes from memory and stays there.
    async fn remember(&self, path: &str) {
        let hits = "holdfast_cache_reads_total{tier=\"process\"}";
        let before = self.here.metric(hits).await;
        self.here
            .until("it is in memory", async || {
                assert_eq!(self.here.api.get(path).await.status, 200);
                self.here.metric(hits).await > before
            })
            .await;
    }

    /// Reads a product here repeatedly until the condition holds. Returns the time that this took.
    async fn seen(&self, path: &str, so: impl Fn(&Value) -> bool) -> Duration {
        let begun = Instant::now();
        until("the new one is shown", async || so(&self.here.api.get(path).await.json())).await;
        begun.elapsed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_by_a_replica_without_redis_is_seen_on_another_within_the_bound() {
    let replicas = replicas().await;
    let id = replicas.here.product(1_000).await;
    let path = format!("/products/{id}");
    replicas.remember(&path).await;
    replicas.redis.blackhole(true);

    let change = json!({ "price": 520, "stock": 7 });
    assert_eq!(replicas.there.put(&path, &change).await.status, 200);
    let price = replicas.seen(&path, |shown| shown["price"] == 520.0 && shown["stock"] == 7).await;
    replicas.remember(&path).await;
    let order = json!({ "product_id": id, "quantity": 3 });
    assert_eq!(replicas.there.post("/orders", &order).await.status, 201);
    let stock = replicas.seen(&path, |shown| shown["stock"] == 4).await;
    replicas.remember(&path).await;
    assert_eq!(replicas.there.delete(&path).await.status, 204);
    let begun = Instant::now();
    until("it is gone", async || replicas.here.api.get(&path).await.status == 404).await;
    println!("seen after {price:?}, {stock:?}, {:?}; the bound is {MAX_AGE} ms", begun.elapsed());
    // The value in Redis is as old, and is not used either: no message confirmed it.
    assert!(replicas.here.process.status().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_added_by_a_replica_without_redis_is_sold_on_another() {
    let replicas = replicas().await;
    let id = replicas.here.product(1).await;
    assert_eq!(replicas.here.order(id, 1).await.status, 201);
    // From now on, it is refused from memory.
    assert_eq!(replicas.here.order(id, 1).await.status, 409);
    replicas.redis.blackhole(true);
    let delivery = json!({ "delta": 5, "reason": "delivery" });
    let delivered = replicas.there.post(&format!("/products/{id}/stock"), &delivery).await;
    assert_eq!(delivered.status, 201, "{}", delivered.text);
    replicas
        .here
        .until("it is sold", async || replicas.here.order(id, 5).await.status == 201)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_by_foreign_sql_is_seen_within_the_bound() {
    let replicas = replicas().await;
    let id = replicas.here.product(1_000).await;
    let path = format!("/products/{id}");
    for (change, field, shown) in [
        ("price_minor = 100", "price", json!(1.0)),
        ("name = 'Torch'", "name", json!("Torch")),
        ("description = 'bright'", "description", json!("bright")),
        ("stock = 3", "stock", json!(3)),
    ] {
        replicas.remember(&path).await;
        let sql = format!("UPDATE products SET {change} WHERE id = {id}");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(replicas.here.store.pool()).await.unwrap();
        let after = replicas.seen(&path, |product| product[field] == shown).await;
        println!("{change}: seen after {after:?}; the bound is {MAX_AGE} ms");
    }
}
