//! A database that accepts no writes for a while, as during a failover. Afterwards all writes work again, whatever
//! sessions were opened in the meantime.

use std::time::{Duration, Instant};

use futures::future::join_all;
use holdfast_domain::{OrderId, Product, ProductId};
use holdfast_sandbox::{PATIENCE, Postgres, PostgresOptions};
use holdfast_store::{
    DatabaseState, LockMode, Store, StoreError, StoreSettings, fulfilment::AttemptResult,
};

use crate::fixture::{self, database_url, lock, new_product, product, settings, wanted};

/// The time limit until writes work again, on a busy machine.
const BACK_LIMIT: Duration = Duration::from_secs(10);

/// Sets whether new sessions accept writes. Existing sessions keep their setting.
async fn take_writes(direct: &Store, takes: bool) {
    let word = if takes { "off" } else { "on" };
    let database: String =
        sqlx::query_scalar("SELECT current_database()").fetch_one(direct.pool()).await.unwrap();
    let sql = format!("ALTER DATABASE \"{database}\" SET default_transaction_read_only = {word}");
    let mut transaction = direct.pool().begin().await.unwrap();
    sqlx::raw_sql("SET TRANSACTION READ WRITE").execute(&mut *transaction).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
}

/// The maximum number of sessions for reading.
async fn open_all(store: &Store, product: ProductId) {
    let reads = join_all((0..64).map(|_| store.product(product))).await;
    assert!(reads.iter().all(Result::is_ok), "{reads:?}");
}

async fn orders(direct: &Store, count: i64) -> Vec<OrderId> {
    let ids: Vec<i64> = sqlx::query_scalar(
        "INSERT INTO orders (product_id, quantity, unit_price_minor) \
         SELECT 1, 1, 100 FROM generate_series(1, $1) RETURNING id",
    )
    .bind(count)
    .fetch_all(direct.pool())
    .await
    .unwrap();
    ids.into_iter().map(OrderId).collect()
}

/// One write of each kind; each must work at once.
async fn write_all(store: &Store, direct: &Store, pending: &[OrderId]) -> Result<(), StoreError> {
    let made = store.create_product(&new_product(5)).await?;
    assert_eq!(direct.product(made.id).await.unwrap().as_ref(), Some(&made));
    store.lock_product(made.id).await?.unwrap().retire().await?;
    assert_eq!(direct.product(made.id).await.unwrap(), None);
    let claims = store.claim(pending, Duration::from_mins(1)).await?;
    assert_eq!(claims.len(), pending.len());
    let done: Vec<_> = claims
        .iter()
        .map(|claim| (claim.order_id, claim.attempt, AttemptResult::HandedBack).into())
        .collect();
    assert_eq!(store.finish(&done).await?.done.len(), pending.len());
    store.lock_batch(&wanted(&[made.id]), LockMode::Skip).await?.release().await?;
    Ok(())
}

#[tokio::test]
async fn a_write_succeeds_at_once_although_all_sessions_were_opened_read_only() {
    let direct = fixture::store().await;
    let store = Store::connect(&settings(&database_url(&direct).await));
    let lamp = product(&direct, 5).await;
    let pending = orders(&direct, 3).await;
    take_writes(&direct, false).await;
    open_all(&store, lamp.id).await;
    take_writes(&direct, true).await;
    write_all(&store, &direct, &pending).await.unwrap();
}

/// The same for each kind of write alone: none depends on what another has detected.
#[tokio::test]
async fn each_kind_of_write_finds_a_writable_session() {
    let direct = fixture::store().await;
    let lamp = product(&direct, 5).await;
    let pending = orders(&direct, 1).await;
    for kind in 0..4 {
        let store = Store::connect(&settings(&database_url(&direct).await));
        take_writes(&direct, false).await;
        open_all(&store, lamp.id).await;
        // A transaction of admission that changes nothing, so it works.
        store.lock_batch(&wanted(&[]), LockMode::Skip).await.unwrap().release().await.unwrap();
        take_writes(&direct, true).await;
        match kind {
            0 => drop(store.create_product(&new_product(1)).await.unwrap()),
            1 => drop(store.lock_product(lamp.id).await.unwrap()),
            2 => drop(store.claim(&pending, Duration::ZERO).await.unwrap()),
            _ => drop(lock(&store, &[lamp.id], LockMode::Wait).await),
        }
    }
}

#[tokio::test]
async fn refused_writes_work_soon_after_the_first_possible_one() {
    let direct = fixture::store().await;
    let store = Store::connect(&settings(&database_url(&direct).await));
    let lamp = product(&direct, 5).await;
    let pending = orders(&direct, 3).await;
    write_all(&store, &direct, &pending).await.unwrap();
    take_writes(&direct, false).await;
    // Earlier sessions still accept writes; those that replace them do not.
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND query NOT LIKE 'ALTER%'",
    )
    .execute(direct.pool())
    .await
    .unwrap();
    for _ in 0..20 {
        let refused = join_all((0..8).map(|_| create(&store))).await;
        let refused: Vec<_> = refused.into_iter().map(Result::unwrap_err).collect();
        // A write on a session that has just been ended cannot know that.
        let expected =
            |error: &StoreError| error.is_transient() || matches!(error, StoreError::Unanswered(_));
        assert!(refused.iter().all(expected), "{refused:?}");
        assert!(store.lock_batch(&wanted(&[lamp.id]), LockMode::Wait).await.is_err());
        // Reads continue.
        assert_eq!(store.product(lamp.id).await.unwrap().unwrap(), lamp);
    }
    take_writes(&direct, true).await;
    let begun = Instant::now();
    while let Err(error) = store.create_product(&new_product(1)).await {
        // The duration is the subject.
        assert!(begun.elapsed() < BACK_LIMIT, "{error:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    write_all(&store, &direct, &pending).await.unwrap();
    let written = join_all((0..32).map(|_| create(&store))).await;
    assert!(written.iter().all(Result::is_ok), "{written:?}");
}

#[tokio::test]
async fn refused_writes_do_not_make_reads_reconnect() {
    let direct = fixture::store().await;
    let store = Store::connect(&settings(&database_url(&direct).await));
    let lamp = product(&direct, 5).await;
    take_writes(&direct, false).await;
    store.create_product(&new_product(1)).await.unwrap_err();
    open_all(&store, lamp.id).await;
    let sessions = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()";
    let before: i64 = sqlx::query_scalar(sessions).fetch_one(direct.pool()).await.unwrap();
    let begun = Instant::now();
    for _ in 0..50 {
        let refused = join_all((0..8).map(|_| create(&store))).await;
        assert!(refused.iter().all(Result::is_err), "{refused:?}");
        store.product(lamp.id).await.unwrap();
    }
    let after: i64 = sqlx::query_scalar(sessions).fetch_one(direct.pool()).await.unwrap();
    // 400 writes and 50 reads. One session checks every 200 ms whether writes are accepted.
    let checks = i64::try_from(begun.elapsed().as_millis() / 200).unwrap();
    assert!(after - before < 30 + checks, "{before} and then {after} after {checks} checks");
}

#[tokio::test]
async fn a_probe_reports_whether_writes_are_possible() {
    let direct = fixture::store().await;
    let store = Store::connect(&settings(&database_url(&direct).await));
    let limit = Duration::from_secs(10);
    let mut probe = store.probe();
    assert_eq!(probe.ask(limit).await.unwrap(), DatabaseState::Whole);
    take_writes(&direct, false).await;
    // An older check notices it when it uses a new connection.
    let mut probe = store.probe();
    assert_eq!(probe.ask(limit).await.unwrap(), DatabaseState::ReadOnly);
    take_writes(&direct, true).await;
    assert_eq!(probe.ask(limit).await.unwrap(), DatabaseState::Whole);
}

/// The setting is changed in the server's configuration, which existing sessions follow at once.
#[tokio::test]
async fn a_server_that_becomes_writable_again_is_used() {
    let server = Postgres::start(PostgresOptions::default()).await.unwrap();
    let url = server.create_database().await.unwrap();
    let direct = Store::connect(&settings(&url));
    direct.migrate().await.unwrap();
    let store = Store::connect(&StoreSettings { pool_size: 4, ..settings(&url) });
    let mut probe = store.probe();
    let lamp = product(&store, 5).await;
    let pending = orders(&direct, 1).await;
    let tell = async |word: &str| {
        let sql = format!("ALTER SYSTEM SET default_transaction_read_only = {word}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(direct.pool()).await.unwrap();
        sqlx::query("SELECT pg_reload_conf()").execute(direct.pool()).await.unwrap();
    };
    tell("on").await;
    let begun = Instant::now();
    while store.create_product(&new_product(1)).await.is_ok() {
        assert!(begun.elapsed() < PATIENCE, "it never heard of it");
    }
    assert_eq!(probe.ask(BACK_LIMIT).await.unwrap(), DatabaseState::ReadOnly);
    open_all(&store, lamp.id).await;
    tell("off").await;
    let begun = Instant::now();
    while let Err(error) = store.create_product(&new_product(1)).await {
        // The duration is the subject.
        assert!(begun.elapsed() < BACK_LIMIT, "{error:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    write_all(&store, &direct, &pending).await.unwrap();
    assert_eq!(probe.ask(BACK_LIMIT).await.unwrap(), DatabaseState::Whole);
}

async fn create(store: &Store) -> Result<Product, StoreError> {
    store.create_product(&new_product(1)).await
}
