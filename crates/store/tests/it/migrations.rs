//! Migrations while programs serve requests: no session waits for a migration.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use holdfast_sandbox::until;
use holdfast_store::{MigrateError, Store};
use sqlx::{
    ConnectOptions as _, Executor as _, PgConnection, migrate::Migrator, postgres::PgConnectOptions,
};

use crate::fixture;

mod rules;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations");

async fn connect(url: &str) -> PgConnection {
    url.parse::<PgConnectOptions>().unwrap().connect().await.unwrap()
}

/// A database with the schema of an earlier release, and its URL.
async fn database_at(version: i64) -> (Store, String) {
    let store = fixture::empty().await;
    let url = fixture::database_url(&store).await;
    let migrator = Migrator::new(Path::new(FOLDER)).await.unwrap();
    migrator.run_to(version, &mut connect(&url).await).await.unwrap();
    (store, url)
}

/// Writes repeatedly. Fails the test if a write waits three seconds for a lock. A migration waits only 100 ms for its
/// own, so it never delays a write that long.
struct ContinuousWriter {
    running: Arc<AtomicBool>,
    writes: Arc<AtomicU64>,
    writing: tokio::task::JoinHandle<()>,
}

impl ContinuousWriter {
    async fn begin(url: &str, statement: &'static str) -> Self {
        let mut connection = connect(url).await;
        connection.execute("SET lock_timeout = '3s'").await.unwrap();
        let running = Arc::new(AtomicBool::new(true));
        let writes = Arc::new(AtomicU64::new(0));
        let (going_on, count) = (Arc::clone(&running), Arc::clone(&writes));
        let writing = tokio::spawn(async move {
            while going_on.load(Ordering::Relaxed) {
                connection.execute(statement).await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { running, writes, writing }
    }

    async fn more(&self, writes: u64) {
        let end = self.writes.load(Ordering::Relaxed) + writes;
        until("writes go on", async || {
            assert!(!self.writing.is_finished(), "a write had to wait");
            self.writes.load(Ordering::Relaxed) >= end
        })
        .await;
    }

    async fn end(self) {
        self.running.store(false, Ordering::Relaxed);
        self.writing.await.unwrap();
    }
}

/// Returns when the migration has timed out once.
async fn until_refused(url: &str) {
    let mut connection = connect(url).await;
    let tried = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() \
                 AND application_name = 'holdfast-migrate' AND state LIKE 'idle%')";
    until("the migration has tried", async || {
        sqlx::query_scalar::<_, bool>(tried).fetch_one(&mut connection).await.unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_continue_while_a_migration_waits_for_a_long_transaction() {
    let (store, url) = database_at(3).await;
    let mut setup = connect(&url).await;
    setup
        .execute(
            "INSERT INTO products (name, price_minor, stock) VALUES ('Lamp', 1, 1), ('Vase', 1, 1)",
        )
        .await
        .unwrap();
    let mut long = connect(&url).await;
    long.execute("BEGIN; SELECT FROM products WHERE id = 1 FOR UPDATE").await.unwrap();
    let writer =
        ContinuousWriter::begin(&url, "UPDATE products SET updated_at = now() WHERE id = 2").await;
    let migrating = tokio::spawn({
        let store = store.clone();
        async move { store.migrate().await }
    });
    until_refused(&url).await;
    writer.more(200).await;
    assert!(!migrating.is_finished());
    long.execute("ROLLBACK").await.unwrap();
    migrating.await.unwrap().unwrap();
    store.check_schema().await.unwrap();
    writer.end().await;
}

#[tokio::test]
async fn a_migration_that_never_gets_its_locks_fails_and_changes_nothing() {
    let (store, url) = database_at(3).await;
    let mut long = connect(&url).await;
    long.execute("BEGIN; SELECT FROM products").await.unwrap();
    let error = store.migrate_within(Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error, MigrateError::Locked { .. }), "{error:?}");
    long.execute("ROLLBACK").await.unwrap();
    store.migrate().await.unwrap();
}

#[tokio::test]
async fn a_second_migration_does_not_wait_for_ever() {
    let store = fixture::empty().await;
    let url = fixture::database_url(&store).await;
    // The connection of the first migration, whose process has ended.
    let mut first = connect(&url).await;
    sqlx::migrate::Migrate::lock(&mut first).await.unwrap();
    let error = store.migrate_within(Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(error, MigrateError::Locked { .. }), "{error:?}");
    drop(first);
    store.migrate().await.unwrap();
}

/// The index belongs to a released migration. The table has rows, and a long transaction has written to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_is_built_during_writes_and_after_an_interruption() {
    let (store, url) = database_at(4).await;
    let mut setup = connect(&url).await;
    setup
        .execute(
            "INSERT INTO holds (product_id, quantity, unit_price_minor, expires_at, order_id) \
             SELECT 1, 1, 1, now(), 7 FROM generate_series(1, 100)",
        )
        .await
        .unwrap();
    // The remains of an interrupted build.
    let broken = "CREATE UNIQUE INDEX CONCURRENTLY holds_by_order ON holds (order_id)";
    setup.execute(broken).await.unwrap_err();
    let mut long = connect(&url).await;
    long.execute("BEGIN; UPDATE holds SET quantity = 2 WHERE id = 1").await.unwrap();
    let writer =
        ContinuousWriter::begin(&url, "UPDATE holds SET quantity = quantity + 1 WHERE id = 2")
            .await;
    let migrating = tokio::spawn({
        let store = store.clone();
        async move { store.migrate().await }
    });
    writer.more(200).await;
    assert!(!migrating.is_finished());
    long.execute("ROLLBACK").await.unwrap();
    migrating.await.unwrap().unwrap();
    writer.end().await;
    store.check_schema().await.unwrap();
    let valid: bool = sqlx::query_scalar(
        "SELECT indisvalid AND NOT indisunique FROM pg_index WHERE indexrelid = 'holds_by_order'::regclass",
    )
    .fetch_one(&mut setup)
    .await
    .unwrap();
    assert!(valid);
    // sqlx compares checksums. The released migration counts as applied.
    let migrator = Migrator::new(Path::new(FOLDER)).await.unwrap();
    migrator.run(&mut setup).await.unwrap();
}

/// The data of a release before schema version 2. There are too many products for one step of the migration that fills
/// the ledger.
const OLD_SHOP: &str = r"
    INSERT INTO products (name, price_minor, stock)
        SELECT 'Lamp', 1, 1000000 FROM generate_series(1, 2500);
    INSERT INTO orders (product_id, quantity, unit_price_minor)
        SELECT 1, 1, 1 FROM generate_series(1, 100)";

/// An old shop that sells, and a transaction that the build of each index waits for.
async fn busy_old_shop() -> (Store, String, ContinuousWriter, PgConnection) {
    let (store, url) = database_at(1).await;
    connect(&url).await.execute(OLD_SHOP).await.unwrap();
    let mut old = connect(&url).await;
    old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
    let sell = "UPDATE products SET stock = stock - 1, version = version + 1 WHERE id = 1";
    let writer = ContinuousWriter::begin(&url, sell).await;
    (store, url, writer, old)
}

/// Migrates. Returns when each product has its first ledger entry, visible to all sessions.
async fn migrate_until_filled(store: &Store, url: &str) -> tokio::task::JoinHandle<usize> {
    let store = store.clone();
    let migrating = tokio::spawn(async move { store.migrate().await.unwrap() });
    let mut connection = connect(url).await;
    for condition in [
        "SELECT to_regclass('stock_ledger') IS NOT NULL",
        "SELECT count(*) = 2500 FROM stock_ledger WHERE reason = 'opening'",
    ] {
        until(condition, async || {
            sqlx::query_scalar::<_, bool>(condition).fetch_one(&mut connection).await.unwrap()
        })
        .await;
    }
    migrating
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_is_filled_during_writes_and_its_entries_are_consistent() {
    let (store, url, writer, mut old) = busy_old_shop().await;
    let migrating = migrate_until_filled(&store, &url).await;
    writer.more(50).await;
    assert!(!migrating.is_finished());
    let applied = "SELECT max(version) = 1 FROM _sqlx_migrations";
    assert!(sqlx::query_scalar::<_, bool>(applied).fetch_one(store.pool()).await.unwrap());
    old.execute("ROLLBACK").await.unwrap();
    migrating.await.unwrap();
    writer.end().await;

    let broken: i64 = sqlx::query_scalar(
        r"SELECT count(*)
        FROM (
            SELECT delta, stock_after, lag(stock_after, 1, 0::bigint) OVER of_one AS before,
                reason = 'opening' AS opening, row_number() OVER of_one = 1 AS first
            FROM stock_ledger
            WINDOW of_one AS (PARTITION BY product_id ORDER BY version)
        ) AS entry
        WHERE stock_after <> before + delta OR opening <> first",
    )
    .fetch_one(store.pool())
    .await
    .unwrap();
    assert_eq!(broken, 0);
    let wrong: i64 = sqlx::query_scalar(
        r"SELECT count(*)
        FROM products
        WHERE stock IS DISTINCT FROM (
            SELECT stock_after FROM stock_ledger WHERE product_id = products.id
            ORDER BY version DESC LIMIT 1
        )",
    )
    .fetch_one(store.pool())
    .await
    .unwrap();
    assert_eq!(wrong, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_in_steps_continues_after_an_interruption_and_produces_the_released_schema() {
    let (store, url, writer, mut old) = busy_old_shop().await;
    let migrating = migrate_until_filled(&store, &url).await;
    migrating.abort();
    assert!(migrating.await.unwrap_err().is_cancelled());
    old.execute("ROLLBACK").await.unwrap();
    store.migrate().await.unwrap();
    writer.end().await;
    assert_eq!(schema(&store).await, schema(&fixture::store().await).await);
    // sqlx compares checksums. The released migration counts as applied.
    let migrator = Migrator::new(Path::new(FOLDER)).await.unwrap();
    migrator.run(&mut connect(&url).await).await.unwrap();
}

/// The schema as PostgreSQL describes it, one line per object.
async fn schema(store: &Store) -> Vec<String> {
    sqlx::query_scalar(
        r"SELECT concat_ws(' ', attrelid::regclass, attnum, attname,
            format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)) AS line
        FROM pg_attribute
        JOIN pg_class ON pg_class.oid = attrelid
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0
        UNION ALL
        SELECT concat_ws(' ', conrelid::regclass, conname, convalidated, pg_get_constraintdef(oid))
        FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace
        UNION ALL
        SELECT concat_ws(' ', indisvalid, pg_get_indexdef(indexrelid))
        FROM pg_index JOIN pg_class ON oid = indrelid
        WHERE relnamespace = 'public'::regnamespace
        UNION ALL
        SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL
        SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        ORDER BY line",
    )
    .fetch_all(store.pool())
    .await
    .unwrap()
}
