//! A failover from a worker's point of view: its connections lead to a standby for a while, and then to a server
//! that accepts writes.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use holdfast_domain::OrderId;
use holdfast_sandbox::{Postgres, PostgresOptions, Proxy};
use holdfast_store::{Store, StoreSettings};
use holdfast_telemetry::Readiness;
use holdfast_worker::{Simulated, Worker};

use crate::{
    fixture::{WorkerFixture, quick, until},
    outages::BACK_LIMIT,
};

const ORDERS: i64 = 50;

fn address(server: &Postgres) -> SocketAddr {
    ([127, 0, 0, 1], server.port()).into()
}

struct WorkerPair {
    primary: Postgres,
    standby: Postgres,
    way: Proxy,
    shop: WorkerFixture,
    ids: Vec<OrderId>,
    _worker: Worker,
}

impl WorkerPair {
    /// A worker that has fulfilled some orders, and then has more orders but only a standby.
    async fn start() -> Self {
        let primary = Postgres::start(PostgresOptions::default()).await.unwrap();
        let shop = WorkerFixture::open_on(&primary).await;
        let standby = primary.standby().await.unwrap();
        let way = Proxy::start(address(&primary)).await.unwrap();
        let url =
            shop.database_url.replace(&address(&primary).to_string(), &way.address().to_string());
        let worker = Worker::start(
            quick(),
            Store::connect(&StoreSettings::new(&url).unwrap()),
            shop.queue.clone(),
            Simulated { duration: Duration::ZERO, fail_percent: 0 },
            &holdfast_telemetry::Registry::default(),
            Readiness::default(),
        )
        .unwrap();
        shop.publish(&shop.orders(5).await).await;
        shop.until("completed", 5).await;
        let ids = shop.orders(ORDERS).await;
        way.lead_to(address(&standby));
        way.cut();
        shop.publish(&ids).await;
        // Long enough for the wait between two attempts to grow to its maximum.
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(shop.count("pending").await, ORDERS);
        Self { primary, standby, way, shop, ids, _worker: worker }
    }
}

#[tokio::test]
async fn work_continues_when_connections_return_from_a_standby() {
    let pair = WorkerPair::start().await;
    pair.way.lead_to(address(&pair.primary));
    let begun = Instant::now();
    pair.shop.until("completed", 5 + ORDERS).await;
    assert!(begun.elapsed() < BACK_LIMIT, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn work_continues_when_the_standby_is_promoted() {
    let pair = WorkerPair::start().await;
    pair.primary.shutdown().await.unwrap();
    pair.standby.promote().await.unwrap();
    let begun = Instant::now();
    let url = pair
        .shop
        .database_url
        .replace(&address(&pair.primary).to_string(), &address(&pair.standby).to_string());
    let store = Store::connect(&StoreSettings::new(&url).unwrap());
    until("all are completed", async || {
        let done: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM orders WHERE status = 'completed' AND id = ANY ($1)",
        )
        .bind(pair.ids.iter().map(|id| id.0).collect::<Vec<_>>())
        .fetch_one(store.pool())
        .await
        .unwrap();
        done == ORDERS
    })
    .await;
    assert!(begun.elapsed() < BACK_LIMIT, "{:?}", begun.elapsed());
}
