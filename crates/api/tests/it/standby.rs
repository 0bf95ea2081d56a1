//! A failover from the API's point of view: its connections lead to a standby for a while, and then to a server
//! that accepts writes.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use holdfast_sandbox::{Postgres, PostgresOptions, Proxy};
use holdfast_store::{Store, StoreSettings};
use serde_json::json;

use crate::hang_ups::Trial;

/// The time limit until every write works again, on a busy machine.
const BACK_LIMIT: Duration = Duration::from_secs(20);

/// A primary with its standby, and an API that reaches them through a proxy.
struct ApiPair {
    primary: Postgres,
    standby: Postgres,
    /// The API's connection to the database.
    way: Proxy,
    /// The test's own connection.
    look: Proxy,
    trial: Arc<Trial>,
    product: i64,
}

fn address(server: &Postgres) -> SocketAddr {
    ([127, 0, 0, 1], server.port()).into()
}

impl ApiPair {
    async fn start() -> Self {
        let primary = Postgres::start(PostgresOptions::default()).await.unwrap();
        let url = primary.create_database().await.unwrap();
        Store::connect(&StoreSettings::new(&url).unwrap()).migrate().await.unwrap();
        let standby = primary.standby().await.unwrap();
        let way = Proxy::start(address(&primary)).await.unwrap();
        let look = Proxy::start(address(&primary)).await.unwrap();
        let through = |proxy: &Proxy| {
            url.replace(&address(&primary).to_string(), &proxy.address().to_string())
        };
        let trial = Trial::watched(&through(&way), &through(&look), &[]).await;
        let product = trial.server.product(1000).await;
        trial.all_work().await;
        Self { primary, standby, way, look, trial, product }
    }

    /// Waits until the standby has the data that the API shows, so that reads continue.
    async fn caught_up(&self) {
        let sent = "SELECT count(*) = 1 AND bool_and(replay_lsn = pg_current_wal_lsn()) \
                    FROM pg_stat_replication";
        self.trial
            .server
            .until("the standby has everything", async || {
                sqlx::query_scalar::<_, bool>(sent).fetch_one(&self.trial.look).await.unwrap()
            })
            .await;
    }

    async fn until_ready(&self, ready: bool) {
        let status = if ready { 200 } else { 503 };
        let probe = async || self.trial.server.internal.get("/readyz").await.status == status;
        self.trial.server.until("/readyz reports it", probe).await;
    }

    /// Reads continue, and writes are refused in such a way that clients retry.
    async fn refuses_writes(&self) {
        let server = &self.trial.server;
        for _ in 0..20 {
            let product = json!({ "name": "A", "price": 1, "stock": 1 });
            let refused = server.api.post("/products", &product).await;
            assert_eq!((refused.status, refused.header("retry-after").is_empty()), (503, false));
            refused.problem();
            assert_eq!(server.order(self.product, 1).await.status, 503);
            assert_eq!(server.api.get("/orders").await.status, 200, "reads go on");
        }
    }

    /// Every write works soon, and none fails after its first success.
    async fn writes_again(&self) {
        let begun = Instant::now();
        let trial = &self.trial;
        for at in 0..trial.operations.len() {
            while !trial.write(at).await {
                assert!(begun.elapsed() < BACK_LIMIT, "{:?}", trial.operations[at]);
            }
        }
        eprintln!("every write worked after {:?}", begun.elapsed());
        self.until_ready(true).await;
        for _ in 0..5 {
            for at in 0..trial.operations.len() {
                assert!(trial.write(at).await, "{:?}", trial.operations[at]);
            }
        }
        trial.nothing_is_missing().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_write_works_again_when_connections_return_from_a_standby() {
    let pair = ApiPair::start().await;
    for _ in 0..2 {
        pair.caught_up().await;
        pair.way.lead_to(address(&pair.standby));
        pair.way.cut();
        pair.until_ready(false).await;
        pair.refuses_writes().await;
        // Sessions on the standby stay, and can be used for reading.
        pair.way.lead_to(address(&pair.primary));
        pair.writes_again().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_on_a_standby_fail_no_write_once_new_ones_reach_the_primary() {
    let pair = ApiPair::start().await;
    pair.caught_up().await;
    pair.way.lead_to(address(&pair.standby));
    // Half of the sessions are replaced by ones that accept no writes.
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM (SELECT pid, row_number() OVER (ORDER BY pid) AS number \
         FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'holdfast') AS all_ \
         WHERE number % 2 = 0",
    )
    .execute(&pair.trial.look)
    .await
    .unwrap();
    let server = &pair.trial.server;
    for _ in 0..50 {
        let answer = server.order(pair.product, 1).await;
        assert!(matches!(answer.status, 201 | 503), "{}", answer.text);
        assert_eq!(server.api.get("/orders").await.status, 200);
    }
    pair.way.lead_to(address(&pair.primary));
    pair.writes_again().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_write_works_again_when_the_standby_is_promoted() {
    let pair = ApiPair::start().await;
    pair.caught_up().await;
    pair.way.lead_to(address(&pair.standby));
    pair.way.cut();
    pair.until_ready(false).await;
    pair.refuses_writes().await;
    // An orderly shutdown, which sends everything to the standby first.
    pair.look.lead_to(address(&pair.standby));
    pair.primary.shutdown().await.unwrap();
    pair.standby.promote().await.unwrap();
    pair.writes_again().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_write_works_again_when_a_crashed_primary_is_replaced_by_its_standby() {
    let pair = ApiPair::start().await;
    pair.caught_up().await;
    pair.primary.kill9().await.unwrap();
    pair.way.lead_to(address(&pair.standby));
    pair.look.lead_to(address(&pair.standby));
    pair.until_ready(false).await;
    pair.refuses_writes().await;
    pair.standby.promote().await.unwrap();
    pair.writes_again().await;
}
