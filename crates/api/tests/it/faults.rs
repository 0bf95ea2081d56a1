//! While Redis or PostgreSQL is not available, answers stay correct and come in bounded time.

use std::time::{Duration, Instant};

use holdfast_sandbox::{Postgres, PostgresOptions, Redis, RedisOptions};
use holdfast_store::{Store, StoreSettings};
use serde_json::json;

use crate::server::{Server, database};

/// The time limit of some requests: much longer than they take, and much shorter than a call that hangs.
const LIMIT: Duration = Duration::from_secs(10);

/// Reads, changes and orders, in limited time.
async fn works(server: &Server, product: i64) {
    let path = format!("/products/{product}");
    let before = server.api.get(&path).await.json()["stock"].as_i64().unwrap();
    for step in 1..=3 {
        let begun = Instant::now();
        let order = server.order(product, 1).await;
        assert_eq!(order.status, 201, "{}", order.text);
        let read = server.api.get(&path).await;
        assert_eq!(read.json()["stock"], before - step, "a stale read");
        let shown = server.api.get(&format!("/orders/{}", order.json()["id"])).await;
        assert_eq!(shown.status, 200);
        let change = server.api.put(&path, &json!({ "description": format!("{step}") })).await;
        assert_eq!(change.status, 200, "{}", change.text);
        assert_eq!(server.api.get(&path).await.json()["description"], format!("{step}"));
        assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn everything_works_while_redis_is_stopped_or_hung() {
    let server = Server::start().await;
    let product = server.product(100).await;
    works(&server, product).await;
    server.redis.pause().unwrap();
    works(&server, product).await;
    server.redis.resume().unwrap();
    works(&server, product).await;
    server.redis.kill9().await.unwrap();
    works(&server, product).await;
    server.redis.restart().await.unwrap();
    works(&server, product).await;
}

#[tokio::test]
async fn the_api_starts_without_redis() {
    let redis = Redis::start(RedisOptions::default()).await.unwrap();
    redis.kill9().await.unwrap();
    let server = Server::on(&database().await, redis, &[]).await;
    let product = server.product(10).await;
    works(&server, product).await;
}

#[tokio::test]
async fn requests_get_503_without_postgres_and_succeed_after_it_is_back() {
    // Durable, because the last commits would be lost otherwise.
    let options = PostgresOptions { durable: true, ..PostgresOptions::default() };
    let postgres = Postgres::start(options).await.unwrap();
    let database_url = postgres.create_database().await.unwrap();
    Store::connect(&StoreSettings::new(&database_url).unwrap()).migrate().await.unwrap();
    let redis = Redis::start(RedisOptions::default()).await.unwrap();
    let server =
        Server::on(&database_url, redis, &[("HOLDFAST_DB_ACQUIRE_TIMEOUT_MS", "500")]).await;
    let product = server.product(10).await;
    assert_eq!(server.order(product, 1).await.status, 201);

    postgres.kill9().await.unwrap();
    let begun = Instant::now();
    let order = server.order(product, 1).await;
    // The connection may break during the first order's commit. Then its outcome is unknown until the database is back.
    // It is looked up in the background, in bounded time.
    assert_eq!(order.status, 503, "{}", order.text);
    for answer in [
        server.api.get("/orders").await,
        server.api.get("/products").await,
        server.api.put(&format!("/products/{product}"), &json!({ "stock": 1 })).await,
        server.order(product, 1).await,
    ] {
        assert_eq!(answer.status, 503, "{}", answer.text);
        let kind = answer.problem()["type"].clone();
        assert!(kind == "/problems/unavailable" || kind == "/problems/overloaded", "{kind}");
    }
    assert!(begun.elapsed() < 3 * LIMIT, "{:?}", begun.elapsed());
    assert_eq!(server.api.get("/livez").await.status, 200);
    assert_eq!(server.api.get("/health").await.status, 200);

    postgres.restart().await.unwrap();
    server
        .until("orders are taken again", async || server.order(product, 1).await.status == 201)
        .await;
    let left = server.api.get(&format!("/products/{product}")).await.json()["stock"].clone();
    let orders = server.api.get("/orders").await.json().as_array().unwrap().len();
    assert_eq!(left.as_i64().unwrap() + i64::try_from(orders).unwrap(), 10);
}
