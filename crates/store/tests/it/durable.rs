//! Answered writes are on disk, whatever the database's settings for commits.

use std::time::Duration;

use holdfast_domain::OrderId;
use holdfast_store::{LockMode, Store, fulfilment::AttemptResult};

use crate::fixture::{self, database_url, lock, new_product, settings, write_one_each};

/// Each change of a product or an order records how its transaction will commit.
const NOTE: &str = "
    CREATE TABLE noted (how text, what text);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO noted VALUES (current_setting('synchronous_commit'), TG_TABLE_NAME || ' ' || TG_OP);
        RETURN NULL;
    END $$;
    CREATE TRIGGER note AFTER INSERT OR UPDATE ON products EXECUTE FUNCTION note();
    CREATE TRIGGER note AFTER INSERT OR UPDATE ON orders EXECUTE FUNCTION note();
    CREATE TRIGGER note AFTER INSERT OR UPDATE ON unfinished_orders EXECUTE FUNCTION note();
";

/// The records of a change, an admitted order, and a worker's claim and outcome.
async fn noted(synchronous_commit: &str) -> Vec<(String, String)> {
    let direct = fixture::store().await;
    let url = database_url(&direct).await;
    sqlx::raw_sql(NOTE).execute(direct.pool()).await.unwrap();
    let database = url.rsplit('/').next().unwrap();
    let sql =
        format!("ALTER DATABASE \"{database}\" SET synchronous_commit = {synchronous_commit}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(direct.pool()).await.unwrap();

    let store = Store::connect(&settings(&url));
    let lamp = store.create_product(&new_product(5)).await.unwrap();
    let batch = lock(&store, &[lamp.id], LockMode::Skip).await;
    let orders: Vec<OrderId> = write_one_each(batch, &[lamp.id]).await.commit().await.unwrap();
    let claims = store.claim(&orders, Duration::from_mins(1)).await.unwrap();
    let done: Vec<_> = claims
        .iter()
        .map(|claim| (claim.order_id, claim.attempt, AttemptResult::Completed).into())
        .collect();
    assert_eq!(store.finish(&done).await.unwrap().done.len(), 1);
    sqlx::query_as("SELECT DISTINCT how, what FROM noted ORDER BY what, how")
        .fetch_all(direct.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn commits_wait_for_the_disk_even_if_the_database_turns_it_off() {
    let noted = noted("off").await;
    let what: Vec<_> = noted.iter().map(|(how, what)| (how.as_str(), what.as_str())).collect();
    assert_eq!(
        what,
        [
            ("on", "orders INSERT"),
            ("on", "orders UPDATE"),
            ("on", "products INSERT"),
            ("on", "products UPDATE"),
            ("on", "unfinished_orders INSERT"),
        ]
    );
}

#[tokio::test]
async fn stricter_settings_for_standbys_are_kept() {
    let noted = noted("remote_apply").await;
    assert!(!noted.is_empty() && noted.iter().all(|(how, _)| how == "remote_apply"), "{noted:?}");
}
