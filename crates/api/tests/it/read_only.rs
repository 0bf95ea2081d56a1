//! A database that accepts no writes for a while.

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use crate::{hang_ups::Trial, server};

/// The time limit until every write works again, on a busy machine.
const BACK_LIMIT: Duration = Duration::from_secs(20);

/// Sets whether new sessions accept writes. Existing sessions do not change.
async fn take_writes(database_url: &str, takes: bool) {
    let mut connection = PgConnection::connect(database_url).await.unwrap();
    let word = if takes { "off" } else { "on" };
    let sql = format!(
        "BEGIN READ WRITE; \
         DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = {word}', \
             current_database()); END $$; COMMIT"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
}

/// Like a failover: all sessions end, and new ones lead to a server that accepts no writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_not_ready_while_there_are_no_writes_and_then_every_write_works() {
    let database_url = server::database().await;
    let trial = Trial::on(&database_url, &[]).await;
    let server = &trial.server;
    let product = server.product(100).await;
    trial.all_work().await;

    take_writes(&database_url, false).await;
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name LIKE 'holdfast%'",
    )
    .execute(&trial.look)
    .await
    .unwrap();
    server
        .until("it is not ready", async || server.internal.get("/readyz").await.status == 503)
        .await;
    for _ in 0..20 {
        let refused =
            server.api.post("/products", &json!({ "name": "A", "price": 1, "stock": 1 })).await;
        assert_eq!((refused.status, refused.header("retry-after").is_empty()), (503, false));
        refused.problem();
        assert_eq!(server.order(product, 1).await.status, 503);
        assert_eq!(server.api.get("/orders").await.status, 200, "reads go on");
    }

    take_writes(&database_url, true).await;
    let begun = Instant::now();
    for at in 0..trial.operations.len() {
        while !trial.write(at).await {
            assert!(begun.elapsed() < BACK_LIMIT, "{:?}", trial.operations[at]);
        }
    }
    server
        .until("it is ready again", async || server.internal.get("/readyz").await.status == 200)
        .await;
    for at in 0..trial.operations.len() {
        assert!(trial.write(at).await, "{:?}", trial.operations[at]);
    }
    trial.nothing_is_missing().await;
}
