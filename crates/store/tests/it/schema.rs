use holdfast_store::SchemaError;

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
async fn a_schema_that_is_ahead_is_fine() {
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
