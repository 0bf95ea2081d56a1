//! The ledger follows each change of a product's stock.

use holdfast_domain::{
    LedgerReason, Product, ProductChanges, ProductName, Stock, StockEdit, StockNote,
};
use holdfast_store::{IdempotencyKey, ResultKind, Store, StoreError};

use crate::fixture::{product, store};

/// Reason, delta, stock afterwards and version of each entry, the oldest first.
async fn ledger(store: &Store, of: &Product) -> Vec<(LedgerReason, i64, i64, i64)> {
    let mut entries = store.stock_ledger(of.id, None, 100).await.unwrap().items;
    entries.reverse();
    entries
        .iter()
        .map(|entry| (entry.reason, entry.delta, entry.stock_after.units(), entry.version))
        .collect()
}

fn stock(units: i64) -> ProductChanges {
    let stock = Some(StockEdit::set(Stock::new(units).unwrap()));
    ProductChanges { stock, ..ProductChanges::default() }
}

#[tokio::test]
async fn exactly_the_changes_of_stock_are_in_the_ledger() {
    use LedgerReason::{Adjustment, Opening, Set, Unknown};

    let store = store().await;
    let lamp = product(&store, 5).await;
    let locked = async || store.lock_product(lamp.id).await.unwrap().unwrap();
    locked().await.update(&stock(9)).await.unwrap();
    // Not the stock: version 3 has no entry, nor has version 4.
    let name = Some(ProductName::new("Torch".to_owned()).unwrap());
    let renamed = ProductChanges { name, ..ProductChanges::default() };
    locked().await.update(&renamed).await.unwrap();
    locked().await.update(&stock(9)).await.unwrap();

    let lock = locked().await;
    assert_eq!(lock.stock_with(-10), None);
    assert_eq!(lock.stock_with(1_000_000_000), None);
    assert_eq!(lock.stock_with(i64::MAX), None);
    let note = Some(StockNote::new("broken in transit".to_owned()).unwrap());
    let edit = StockEdit { note, ..lock.stock_with(-4).unwrap() };
    let entry = lock.adjust(&edit, None).await.unwrap();
    assert_eq!((entry.delta, entry.stock_after.units(), entry.version), (-4, 5, 5));
    assert_eq!(entry.note.as_deref(), Some("broken in transit"));
    assert_eq!(store.stock_change(lamp.id, 5).await.unwrap(), Some(entry));
    assert_eq!(store.stock_change(lamp.id, 4).await.unwrap(), None);

    // Somebody with psql, who does not even count the version.
    let url = crate::fixture::database_url(&store).await;
    let mut psql = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
    sqlx::query("UPDATE products SET stock = stock + 7, version = version + 1")
        .execute(&mut psql)
        .await
        .unwrap();
    locked().await.retire().await.unwrap();

    assert_eq!(
        ledger(&store, &lamp).await,
        [(Opening, 5, 5, 1), (Set, 4, 9, 2), (Adjustment, -4, 5, 5), (Unknown, 7, 12, 6)]
    );
}

#[tokio::test]
async fn a_change_by_another_program_leaves_the_entries_as_they_are() {
    use LedgerReason::{Adjustment, Opening, Unknown};

    let store = store().await;
    let lamp = product(&store, 10).await;
    let adjust = async |units| {
        let lock = store.lock_product(lamp.id).await.unwrap().unwrap();
        let edit = lock.stock_with(units).unwrap();
        lock.adjust(&edit, None).await.unwrap()
    };
    let entry = adjust(5).await;
    let url = crate::fixture::database_url(&store).await;
    let mut psql = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
    // The version is not counted, is taken back, and only the held units change.
    for sql in [
        "UPDATE products SET stock = stock - 8",
        "UPDATE products SET stock = stock - 1, version = 1",
        "UPDATE products SET held = held + 1, stock = stock - 1",
        "UPDATE products SET held = held - 1",
    ] {
        sqlx::query(sql).execute(&mut psql).await.unwrap();
    }
    assert_eq!(store.stock_change(lamp.id, entry.version).await.unwrap(), Some(entry));
    let last = adjust(1).await;
    assert_eq!(
        ledger(&store, &lamp).await,
        [
            (Opening, 10, 10, 1),
            (Adjustment, 5, 15, 2),
            (Unknown, -8, 7, 3),
            (Unknown, -1, 6, 4),
            (Unknown, -1, 5, 5),
            (Unknown, 0, 5, 6),
            (Adjustment, 1, 6, 7),
        ]
    );
    assert_eq!(store.product(lamp.id).await.unwrap().unwrap().version, last.version);
}

#[tokio::test]
async fn held_units_count_towards_the_stock_limit() {
    let store = store().await;
    let lamp = product(&store, 5).await;
    sqlx::query("UPDATE products SET held = 10").execute(store.pool()).await.unwrap();
    let lock = store.lock_product(lamp.id).await.unwrap().unwrap();
    assert_eq!(lock.max_stock(), 999_999_990);
    assert_eq!(lock.stock_with(999_999_986), None);
    assert_eq!(lock.stock_with(999_999_985).unwrap().stock.units(), 999_999_990);
}

#[tokio::test]
async fn a_rolled_back_change_leaves_no_entry_and_no_key() {
    let store = store().await;
    let lamp = product(&store, 5).await;
    let key = IdempotencyKey::new("", "restock", b"lamp");
    let adjust = async || {
        let lock = store.lock_product(lamp.id).await.unwrap().unwrap();
        let edit = lock.stock_with(1).unwrap();
        lock.adjust(&edit, Some(&key)).await
    };
    assert_eq!(store.keyed(&key).await.unwrap(), None);
    adjust().await.unwrap();
    let result = store.keyed(&key).await.unwrap().unwrap();
    assert_eq!((result.kind, result.id), (ResultKind::Adjustment, 2));
    assert!(key.led_to(&result));

    let error = adjust().await.unwrap_err();
    assert!(matches!(error, StoreError::KeyTaken), "{error:?}");
    assert_eq!(store.product(lamp.id).await.unwrap().unwrap().stock.units(), 6);
    assert_eq!(ledger(&store, &lamp).await.len(), 2);
}

/// Another transaction has written the key of an adjustment and does not end: the product is not kept for that long.
#[tokio::test]
async fn an_adjustment_does_not_wait_for_a_key_with_its_product_locked() {
    let store = crate::fixture::store().await;
    let mut settings = crate::fixture::settings(&crate::fixture::database_url(&store).await);
    // Longer than a statement may take, which would be another error.
    settings.lock_timeout = std::time::Duration::from_secs(30);
    settings.statement_timeout = std::time::Duration::from_secs(3);
    let patient = holdfast_store::Store::connect(&settings);
    let lamp = crate::fixture::product(&store, 5).await.id;
    let key = holdfast_store::IdempotencyKey::new("", "k", b"1");
    let mut other = store.pool().acquire().await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut *other).await.unwrap();
    sqlx::query("INSERT INTO idempotency_keys VALUES ($1, 1, 'adjustment', 1)")
        .bind(uuid::Uuid::from_u128(key.id()))
        .execute(&mut *other)
        .await
        .unwrap();
    let locked = patient.lock_product(lamp).await.unwrap().unwrap();
    let edit = locked.stock_with(1).unwrap();
    let error = locked.adjust(&edit, Some(&key)).await.unwrap_err();
    assert!(matches!(error, holdfast_store::StoreError::LockTimeout(_)), "{error:?}");
    sqlx::raw_sql("ROLLBACK").execute(&mut *other).await.unwrap();
    drop(other);
    let locked = patient.lock_product(lamp).await.unwrap().unwrap();
    locked.adjust(&edit, Some(&key)).await.unwrap();
}
