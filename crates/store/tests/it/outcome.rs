use std::time::Duration;

use holdfast_store::{BatchOutcome, LockMode};

use crate::fixture::{count_orders, lock, product, stock_of, store, write_one_each};

/// Kills every connection with an open transaction.
async fn kill_open_transactions(store: &holdfast_store::Store) {
    let killed: i64 = sqlx::query_scalar(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE datname = current_database() AND state = 'idle in transaction'",
    )
    .fetch_one(store.pool())
    .await
    .unwrap();
    assert_eq!(killed, 1);
}

#[tokio::test]
async fn a_commit_whose_connection_was_lost_is_found_to_be_rolled_back() {
    let store = store().await;
    let lamp = product(&store, 5).await;
    let written = write_one_each(lock(&store, &[lamp.id], LockMode::Wait).await, &[lamp.id]).await;
    kill_open_transactions(&store).await;
    let unanswered = written.commit().await.unwrap_err();
    let outcome = store.outcome(&unanswered.token).await;
    assert_eq!(outcome, BatchOutcome::RolledBack);
    assert_eq!((count_orders(&store).await, stock_of(&store, lamp.id).await), (0, 5));
    // The next batch gets a working connection.
    let batch = lock(&store, &[lamp.id], LockMode::Wait).await;
    write_one_each(batch, &[lamp.id]).await.commit().await.unwrap();
}

#[tokio::test]
async fn a_commit_that_happened_is_found_by_its_token() {
    let store = store().await;
    let lamp = product(&store, 5).await;
    let written = write_one_each(lock(&store, &[lamp.id], LockMode::Wait).await, &[lamp.id]).await;
    let token = written.token();
    written.commit().await.unwrap();
    assert_eq!(store.outcome(&token).await, BatchOutcome::Committed);
}

#[tokio::test]
async fn a_lookup_waits_while_the_transaction_is_running() {
    let store = store().await;
    let lamp = product(&store, 5).await;
    let written = write_one_each(lock(&store, &[lamp.id], LockMode::Wait).await, &[lamp.id]).await;
    let token = written.token();
    let looking = store.outcome(&token);
    tokio::pin!(looking);
    // The transaction is still running, so the outcome is not known yet.
    tokio::time::timeout(Duration::from_millis(200), &mut looking).await.unwrap_err();
    written.commit().await.unwrap();
    assert_eq!(looking.await, BatchOutcome::Committed);
}
