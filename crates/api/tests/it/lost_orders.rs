//! Orders that were answered and that a failover has lost, because the standby lacked the last commits.

use holdfast_sandbox::{Postgres, PostgresOptions, Redis, RedisOptions};
use holdfast_store::{Store, StoreSettings};
use sqlx::{Connection as _, PgConnection};

use crate::server::Server;

const REPORTED: &str = "holdfast_orders_lost_total";
const FOUND: &str = "holdfast_orders_found_total";

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

/// A server on a primary and its standby.
struct Pair {
    primary: Postgres,
    standby: Postgres,
    server: Server,
    product: i64,
    /// The database on the standby.
    on_standby: String,
}

impl Pair {
    async fn start() -> Self {
        let primary = Postgres::start(PostgresOptions::default()).await.unwrap();
        let url = primary.create_database().await.unwrap();
        Store::connect(&StoreSettings::new(&url).unwrap()).migrate().await.unwrap();
        let standby = primary.standby().await.unwrap();
        let [first, second] =
            [&primary, &standby].map(|server| format!("127.0.0.1:{}", server.port()));
        let both = url.replace(&first, &format!("{first},{second}"));
        let redis = Redis::start(RedisOptions::default()).await.unwrap();
        let server = Server::on(&both, redis, &[]).await;
        let product = server.product(1000).await;
        Self { primary, standby, server, product, on_standby: url.replace(&first, &second) }
    }

    async fn order(&self) -> i64 {
        ordered(&self.server, self.product).await
    }

    /// Orders that the standby lacks.
    async fn orders_behind(&self) -> Vec<i64> {
        caught_up(&self.primary).await;
        cut_off(&self.standby).await;
        let mut orders = Vec::new();
        for _ in 0..3 {
            orders.push(self.order().await);
        }
        assert_eq!(self.server.metric(REPORTED).await, 0);
        orders
    }

    async fn counts(&self, name: &str, count: u64) {
        self.server
            .until("the orders are reported", async || self.server.metric(name).await == count)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_a_failover_has_lost_are_reported_once_although_their_ids_are_used_again() {
    let pair = Pair::start().await;
    let server = &pair.server;
    let kept = pair.order().await;
    let lost = pair.orders_behind().await;

    // New ids are at most 32 higher than those that the standby knows, so some may be used again.
    let behind = format!("SELECT setval('orders_id_seq', {kept})");
    pair.primary.kill9().await.unwrap();
    pair.standby.promote().await.unwrap();
    let mut connection = PgConnection::connect(&pair.on_standby).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(behind)).execute(&mut connection).await.unwrap();
    let after = pair.order().await;
    assert_eq!(after, lost[0], "the number is assigned again");
    pair.counts(REPORTED, 3).await;
    let line = server.process.logs(&["\"orders\"", "lost"]).await;
    for id in &lost {
        assert!(line.contains(&id.to_string()), "{line}");
    }

    // The database is reported as changed again, and nothing is reported twice.
    pair.standby.restart().await.unwrap();
    pair.order().await;
    server
        .until("the restart was noticed", async || {
            server.process.log().unwrap().matches("the cache is emptied").count() >= 2
        })
        .await;
    pair.order().await;
    assert_eq!(server.metric(REPORTED).await, 3);
    assert_eq!(server.metric(FOUND).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_were_reported_as_lost_are_reported_as_found_when_the_former_primary_is_back() {
    let pair = Pair::start().await;
    pair.orders_behind().await;
    pair.primary.kill9().await.unwrap();
    pair.standby.promote().await.unwrap();
    // Both have an order with its id if the sequence of the standby was not ahead.
    pair.order().await;
    pair.counts(REPORTED, 3).await;

    pair.standby.kill9().await.unwrap();
    pair.primary.restart().await.unwrap();
    pair.counts(FOUND, 3).await;
    pair.counts(REPORTED, 4).await;
}
