use holdfast_sandbox::until;
use holdfast_store::{LockMode, SchemaError, Store};

use crate::fixture;

#[tokio::test]
async fn an_empty_database_is_behind_and_a_migrated_one_is_not() {
    let store = fixture::empty().await;
    let error = store.check_schema().await.unwrap_err();
    assert!(matches!(error, SchemaError::Behind { found: 0, .. }), "{error:?}");
    store.migrate().await.unwrap();
    store.check_schema().await.unwrap();
}

#[tokio::test]
async fn two_migrations_at_once_are_safe() {
    let store = fixture::empty().await;
    let (first, second) = tokio::join!(store.migrate(), store.migrate());
    first.unwrap();
    second.unwrap();
    store.check_schema().await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_accepted() {
    let store = fixture::store().await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (99999, 'the next release', true, '', 0)",
    )
    .execute(store.pool())
    .await
    .unwrap();
    store.check_schema().await.unwrap();
    store.migrate().await.unwrap();
}

#[tokio::test]
async fn an_interrupted_migration_continues_where_it_stopped() {
    let store = fixture::empty().await;
    // The third migration waits for a session that is creating a table with that name.
    let mut blocker = store.pool().begin().await.unwrap();
    sqlx::query("CREATE TABLE api_keys ()").execute(&mut *blocker).await.unwrap();
    let killer = async {
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                    WHERE datname = current_database() AND application_name = 'holdfast-migrate' \
                    AND wait_event_type = 'Lock'";
        // On a separate connection: within a transaction, the view does not change.
        until("the migration waits, and is interrupted", async || {
            sqlx::query(kill).fetch_optional(store.pool()).await.unwrap()
        })
        .await;
    };
    let (interrupted, ()) = tokio::join!(store.migrate(), killer);
    interrupted.unwrap_err();
    blocker.rollback().await.unwrap();
    let error = store.check_schema().await.unwrap_err();
    assert!(matches!(error, SchemaError::Behind { found: 2, .. }), "{error:?}");
    store.migrate().await.unwrap();
    store.check_schema().await.unwrap();
}

/// Binaries of the previous release serve requests during and after a migration, until they are replaced. So everything
/// that they use must stay.
#[test]
fn migrations_only_expand() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations");
    let mut looked_at = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.lines().map(|line| line.split("--").next().unwrap_or_default());
        let code = code.collect::<Vec<_>>().join(" ").to_uppercase();
        for statement in code.split(';') {
            let words = statement.split_whitespace().collect::<Vec<_>>().join(" ");
            for contracts in [
                "DROP TABLE",
                "DROP COLUMN",
                " RENAME ",
                "SET NOT NULL",
                " TYPE ",
                "DROP DEFAULT",
                "DROP TRIGGER",
                "DROP FUNCTION",
            ] {
                assert!(!words.contains(contracts), "{}: {words}", path.display());
            }
            assert!(!words.starts_with("TRUNCATE"), "{}: {words}", path.display());
            // A column that old binaries do not write needs a default.
            if words.contains("ADD COLUMN") && words.contains("NOT NULL") {
                assert!(words.contains("DEFAULT"), "{}: {words}", path.display());
            }
        }
        looked_at += 1;
    }
    assert!(looked_at >= 4, "{looked_at}");
}

#[tokio::test]
async fn tables_are_found_without_a_search_path() {
    for path in ["pg_catalog", "''", "nowhere"] {
        let direct = fixture::empty().await;
        let url = fixture::database_url(&direct).await;
        let database = url.rsplit('/').next().unwrap();
        let sql = format!("ALTER DATABASE \"{database}\" SET search_path = {path}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(direct.pool()).await.unwrap();
        let store = Store::connect(&fixture::settings(&url));
        store.migrate().await.unwrap();
        store.check_schema().await.unwrap();
        let lamp = fixture::product(&store, 5).await;
        let batch = fixture::lock(&store, &[lamp.id], LockMode::Wait).await;
        fixture::write_one_each(batch, &[lamp.id]).await.commit().await.unwrap();
        assert_eq!(fixture::stock_of(&store, lamp.id).await, 4, "{path}");
    }
}
