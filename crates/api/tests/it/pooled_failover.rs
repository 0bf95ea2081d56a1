//! A failover between servers that each have a PgBouncer in front of them.

use holdfast_sandbox::{PgBouncer, Postgres, PostgresOptions, Redis, RedisOptions};
use holdfast_store::{Store, StoreSettings};
use serde_json::Value;

use crate::server::Server;

const SETTINGS: &str = "pool_mode = session\nserver_reset_query = DISCARD ALL\n\
                        ignore_startup_parameters = extra_float_digits";

async fn ordered(server: &Server, product: i64) -> Value {
    let mut order = None;
    server
        .until("an order is accepted", async || {
            let answer = server.order(product, 1).await;
            order = (answer.status == 201).then(|| answer.json());
            order.is_some()
        })
        .await;
    order.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_go_on_behind_the_pooler_of_the_new_primary() {
    let primary = Postgres::start(PostgresOptions::default()).await.unwrap();
    let url = primary.create_database().await.unwrap();
    Store::connect(&StoreSettings::new(&url).unwrap()).migrate().await.unwrap();
    let standby = primary.synchronous_standby().await.unwrap();
    let mut poolers = Vec::new();
    for server in [&primary, &standby] {
        let Some(pooler) = PgBouncer::start(server, SETTINGS).await.unwrap() else {
            eprintln!("NOT TESTED: PgBouncer is not installed");
            return;
        };
        poolers.push(pooler);
    }
    let hosts: Vec<_> = poolers.iter().map(|it| it.address().to_string()).collect();
    let both = url.replace(&format!("127.0.0.1:{}", primary.port()), &hosts.join(","));
    let redis = Redis::start(RedisOptions::default()).await.unwrap();
    let server = Server::on(&both, redis, &[]).await;
    let product = server.product(1000).await;
    let before = ordered(&server, product).await;

    primary.kill9().await.unwrap();
    standby.promote().await.unwrap();
    let after = ordered(&server, product).await;
    assert_ne!(after["id"], before["id"]);
    for order in [before, after] {
        let path = format!("/orders/{}", order["id"]);
        assert_eq!(server.api.get(&path).await.status, 200, "{path}");
    }
}
