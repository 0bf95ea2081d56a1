//! A database that takes no writes for a while, and changes that wait for a locked row.

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use crate::{hang_ups::Trial, server};

/// The longest until every write works again.
const BACK_LIMIT: Duration = Duration::from_secs(2);

/// New sessions take no writes, or do again. The ones that there are do not change.
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

/// As a failover does: all sessions end, and the new ones lead to a server that takes no writes.
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_a_locked_product_leave_reads_lists_and_cancels_alone() {
    let trial = Trial::on(&server::database().await, &[]).await;
    let server = &trial.server;
    let locked = server.product(5).await;
    let other = server.product(5).await;
    let order = server.order(other, 1).await.json()["id"].as_i64().unwrap();
    let mut holder = trial.look.begin().await.unwrap();
    sqlx::query("SELECT FROM products WHERE id = $1 FOR UPDATE")
        .bind(locked)
        .execute(&mut *holder)
        .await
        .unwrap();
    let mut changes = tokio::task::JoinSet::new();
    for change in 0..60 {
        let api = server.api.clone();
        changes.spawn(async move {
            let path = format!("/products/{locked}");
            match change % 3 {
                0 => api.put(&path, &json!({ "price": 2 })).await,
                1 => api.delete(&path).await,
                _ => {
                    let delta = json!({ "delta": 1, "reason": "found" });
                    api.post(&format!("{path}/stock"), &delta).await
                }
            }
        });
    }
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND wait_event_type = 'Lock'";
    server
        .until("changes wait", async || {
            sqlx::query_scalar::<_, i64>(waiting).fetch_one(&trial.look).await.unwrap() >= 4
        })
        .await;
    // None of these waits for a connection: each would wait as long as a change.
    for _ in 0..10 {
        assert_eq!(server.api.get("/orders").await.status, 200);
        assert_eq!(server.api.get("/products").await.status, 200);
        assert_eq!(server.api.get(&format!("/orders/{order}")).await.status, 200);
    }
    let cancel = server.api.post(&format!("/orders/{order}/cancel"), &json!({})).await;
    assert_eq!(cancel.status, 200, "{}", cancel.text);
    let still: i64 = sqlx::query_scalar(waiting).fetch_one(&trial.look).await.unwrap();
    assert!(still >= 4, "{still}: they must be waiting still for this to prove anything");

    while let Some(answer) = changes.join_next().await {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 503, "{}", answer.text);
        answer.problem();
    }
    holder.rollback().await.unwrap();
    trial.all_work().await;
}
