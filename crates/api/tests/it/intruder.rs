//! An intruder in Redis.

use redis::AsyncCommands as _;

use crate::{
    client::Client,
    server::{self, Server},
};

#[tokio::test]
async fn foreign_writes_to_redis_change_no_order() {
    let server = Server::start().await;
    let product = server.product(3).await;
    let path = format!("/products/{product}");
    assert_eq!(server.api.get(&path).await.json()["price"], 499.9);

    // From now on, the cache in Redis has another price and another stock.
    let client = redis::Client::open(server.redis.url()).unwrap();
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(holdfast_sandbox::PATIENCE))
        .set_response_timeout(Some(holdfast_sandbox::PATIENCE));
    let mut redis = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
    // The value is written to Redis a moment after the read.
    let mut forged = 0;
    while forged == 0 {
        for key in redis.keys::<_, Vec<String>>("*").await.unwrap() {
            let Ok(Some(value)) = redis.hget::<_, _, Option<String>>(&key, "d").await else {
                continue;
            };
            let lie = value.replace("499.9", "0.01").replace("\"stock\":3", "\"stock\":9999");
            if lie != value {
                let _: i64 = redis.hset(&key, "d", lie).await.unwrap();
                forged += 1;
            }
        }
        assert_eq!(server.api.get(&path).await.status, 200);
    }
    assert_eq!(forged, 1);

    // A replica without its own memory shows the false value while it is cached, and sells at the true price and stock.
    let long = [("HOLDFAST_CACHE_MAX_AGE_MS", "60000")];
    let process = server::spawn(&server.database_url, &server.redis.url(), &long).await;
    let [address, ..] = server::addresses(&process).await;
    let fresh = Client::new(&address);
    server.until("it is ready", async || fresh.get("/readyz").await.status == 200).await;
    server
        .until("it shows the false value", async || fresh.get(&path).await.json()["price"] == 0.01)
        .await;
    let order = |quantity: i64| serde_json::json!({ "product_id": product, "quantity": quantity });
    let refused = fresh.post("/orders", &order(4)).await;
    assert_eq!((refused.status, &refused.problem()["left"]), (409, &3.into()));
    let accepted = fresh.post("/orders", &order(3)).await;
    assert_eq!((accepted.status, &accepted.json()["unit_price"]), (201, &499.9.into()));
    // The order has written the true stock to the cache, and a change of the product writes the rest.
    assert_eq!(fresh.get(&path).await.json()["stock"], 0);
    assert_eq!(fresh.put(&path, &serde_json::json!({ "name": "Lamp" })).await.status, 200);
    assert_eq!(fresh.get(&path).await.json()["price"], 499.9);
}
