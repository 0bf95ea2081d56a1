//! Orders that were answered and that a failover has lost, because the standby lacked the last commits.

use holdfast_sandbox::{Postgres, PostgresOptions, Redis, RedisOptions};
use holdfast_store::{Store, StoreSettings};
use sqlx::{Connection as _, PgConnection};

use crate::server::Server;

const REPORTED: &str = "holdfast_orders_lost_total";

/// From now on, the primary sends nothing to the standby.
async fn cut_off(standby: &Postgres) {
    let mut connection = PgConnection::connect(&standby.url()).await.unwrap();
    for statement in ["ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"] {
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }
    holdfast_sandbox::until("the standby receives nothing", async || {
        let sql = "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)";
        sqlx::query_scalar::<_, bool>(sql).fetch_one(&mut connection).await.unwrap()
    })
    .await;
}

async fn caught_up(primary: &Postgres) {
    let mut connection = PgConnection::connect(&primary.url()).await.unwrap();
    holdfast_sandbox::until("the standby has everything", async || {
        let sql = "SELECT count(*) = 1 AND bool_and(replay_lsn = pg_current_wal_lsn()) \
                   FROM pg_stat_replication";
        sqlx::query_scalar::<_, bool>(sql).fetch_one(&mut connection).await.unwrap()
    })
    .await;
}

async fn ordered(server: &Server, product: i64) -> i64 {
    let mut id = None;
    server
        .until("an order is accepted", async || {
            let answer = server.order(product, 1).await;
            id = (answer.status == 201).then(|| answer.json()["id"].as_i64().unwrap());
            id.is_some()
        })
        .await;
    id.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_a_failover_has_lost_are_reported_once_although_their_ids_are_used_again() {
    let primary = Postgres::start(PostgresOptions::default()).await.unwrap();
    let url = primary.create_database().await.unwrap();
    Store::connect(&StoreSettings::new(&url).unwrap()).migrate().await.unwrap();
    let standby = primary.standby().await.unwrap();
    let (first, second) =
        (format!("127.0.0.1:{}", primary.port()), format!("127.0.0.1:{}", standby.port()));
    let both = url.replace(&first, &format!("{first},{second}"));
    let redis = Redis::start(RedisOptions::default()).await.unwrap();
    let server = Server::on(&both, redis, &[]).await;
    let product = server.product(1000).await;
    let kept = ordered(&server, product).await;
    caught_up(&primary).await;
    cut_off(&standby).await;
    let mut lost = Vec::new();
    for _ in 0..3 {
        lost.push(ordered(&server, product).await);
    }
    assert_eq!(server.metric(REPORTED).await, 0);

    // New ids are at most 32 higher than those that the standby knows, so some may be used again.
    let behind = format!("SELECT setval('orders_id_seq', {kept})");
    primary.kill9().await.unwrap();
    standby.promote().await.unwrap();
    let mut connection = PgConnection::connect(&url.replace(&first, &second)).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(behind)).execute(&mut connection).await.unwrap();
    let after = ordered(&server, product).await;
    assert_eq!(after, lost[0], "the number is assigned again");
    server.until("the lost orders are reported", async || server.metric(REPORTED).await == 3).await;
    let log = server.process.log().unwrap();
    let line = log.lines().find(|line| line.contains("\"orders\"") && line.contains("lost"));
    let line = line.unwrap_or_else(|| panic!("no report in {log}"));
    for id in &lost {
        assert!(line.contains(&id.to_string()), "{line}");
    }

    // The database is reported as changed again, and nothing is reported twice.
    standby.restart().await.unwrap();
    ordered(&server, product).await;
    server
        .until("the restart was noticed", async || {
            server.process.log().unwrap().matches("the cache is emptied").count() >= 2
        })
        .await;
    ordered(&server, product).await;
    assert_eq!(server.metric(REPORTED).await, 3);
}
