//! `DATABASE_READ_URL`: standbys serve lists, look-ups and histories, and no answer is stale on any replica of the API.

use holdfast_sandbox::{Postgres, PostgresOptions, Redis, RedisOptions};
use holdfast_store::{Store, StoreSettings};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use crate::server::Server;

const SERVED: &str = "holdfast_read_replica_reads_total{outcome=\"replica\"}";
const USED: &str = "holdfast_read_replicas{state=\"used\"}";

/// A shop with a standby and two replicas of the API, which share only the database.
struct ReadShop {
    _primary: Postgres,
    standby: Postgres,
    servers: [Server; 2],
}

impl ReadShop {
    async fn open() -> Self {
        let primary = Postgres::start(PostgresOptions::default()).await.unwrap();
        let url = primary.create_database().await.unwrap();
        Store::connect(&StoreSettings::new(&url).unwrap()).migrate().await.unwrap();
        let standby = primary.standby().await.unwrap();
        let reads = standby.database_url(url.rsplit('/').next().unwrap());
        let start = async || {
            let redis = Redis::start(RedisOptions::default()).await.unwrap();
            Server::on(&url, redis, &[("DATABASE_READ_URL", &reads)]).await
        };
        let servers = [start().await, start().await];
        for server in &servers {
            server.until("the standby is used", async || server.metric(USED).await == 1).await;
        }
        Self { _primary: primary, standby, servers }
    }

    async fn on_standby(&self, sql: &'static str) {
        let mut connection = PgConnection::connect(&self.standby.url()).await.unwrap();
        sqlx::query(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

/// Writes through `writer`, and checks that the next read on each of the two servers shows it.
async fn is_shown(writer: &Server, reader: &Server) {
    let product = writer.product(100).await;
    let order = writer.order(product, 1).await;
    assert_eq!(order.status, 201, "{}", order.text);
    let order = order.json()["id"].as_i64().unwrap();
    let body = json!({ "product_id": product, "quantity": 2, "seconds": 60 });
    let hold = writer.api.post("/holds", &body).await;
    assert_eq!(hold.status, 201, "{}", hold.text);
    let hold = hold.json()["id"].as_i64().unwrap();
    for server in [reader, writer] {
        let get = async |path: String| {
            let answer = server.api.get(&path).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text);
            answer.json()
        };
        assert_eq!(get(format!("/orders/{order}")).await["product_id"], product);
        let listed = get(format!("/orders?product_id={product}")).await;
        assert_eq!(listed.as_array().unwrap().len(), 1);
        assert_eq!(get(format!("/holds/{hold}")).await["quantity"], 2);
        assert_eq!(get(format!("/holds?product_id={product}")).await.as_array().unwrap().len(), 1);
        let ledger = get(format!("/products/{product}/stock-ledger")).await;
        assert_eq!(ledger[0]["stock"], 97, "{ledger}");
        let levels = server.admin.get("/stock?limit=1000").await.json();
        let level = levels.as_array().unwrap().iter().find(|level| level["id"] == product);
        assert_eq!(level.unwrap()["stock"], 97);
    }
    let cancelled = writer.api.post(&format!("/orders/{order}/cancel"), &json!({})).await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.text);
    for server in [reader, writer] {
        let shown = server.api.get(&format!("/orders/{order}")).await.json();
        assert_eq!(shown["status"], "cancelled");
        let listed = server.api.get("/orders?status=cancelled").await.json();
        assert!(listed.as_array().unwrap().iter().any(|listed| listed["id"] == order));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_and_orders_are_never_stale_on_any_replica_of_the_api() {
    let shop = ReadShop::open().await;
    let [one, two] = &shop.servers;
    for paused in [false, true, false, true, false] {
        if paused {
            shop.on_standby("SELECT pg_wal_replay_pause()").await;
        }
        for _ in 0..5 {
            is_shown(one, two).await;
            is_shown(two, one).await;
        }
        if paused {
            shop.on_standby("SELECT pg_wal_replay_resume()").await;
        }
        for server in [one, two] {
            let served = server.metric(SERVED).await;
            server
                .until("the standby serves reads", async || {
                    assert_eq!(server.api.get("/orders?limit=1").await.status, 200);
                    server.metric(SERVED).await > served
                })
                .await;
        }
    }
    eprintln!(
        "the standby served {} and {} reads",
        one.metric(SERVED).await,
        two.metric(SERVED).await
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_of_a_list_fit_together_whichever_server_reads_them() {
    let shop = ReadShop::open().await;
    let [server, other] = &shop.servers;
    let product = server.product(1000).await;
    let mut expected = Vec::new();
    for _ in 0..30 {
        expected.insert(0, server.order(product, 1).await.json()["id"].as_i64().unwrap());
    }
    let mut path = "/orders?limit=3".to_owned();
    let mut found = Vec::new();
    for page in 0..10 {
        // Some pages are read on the primary.
        match page {
            3 => {
                shop.on_standby("SELECT pg_wal_replay_pause()").await;
                server.order(product, 1).await;
            }
            6 => shop.on_standby("SELECT pg_wal_replay_resume()").await,
            _ => {}
        }
        let answer = if page % 2 == 0 { server } else { other }.api.get(&path).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let orders = answer.json();
        found.extend(orders.as_array().unwrap().iter().map(|order| order["id"].as_i64().unwrap()));
        let link = answer.header("link").to_owned();
        let Some(next) = link.split_once('<').and_then(|(_, next)| next.split_once('>')) else {
            break;
        };
        path = next.0.to_owned();
    }
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_starts_while_the_standby_is_down() {
    let primary = Postgres::start(PostgresOptions::default()).await.unwrap();
    let url = primary.create_database().await.unwrap();
    Store::connect(&StoreSettings::new(&url).unwrap()).migrate().await.unwrap();
    let redis = Redis::start(RedisOptions::default()).await.unwrap();
    let server =
        Server::on(&url, redis, &[("DATABASE_READ_URL", "postgres://u:hunter2@127.0.0.1:1/db")])
            .await;
    let product = server.product(10).await;
    assert_eq!(server.order(product, 1).await.status, 201);
    assert_eq!(server.api.get("/orders").await.json().as_array().unwrap().len(), 1);
    let log = server.process.log().unwrap();
    assert!(log.contains("the read replica is left out") && log.contains("127.0.0.1:1"), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}
