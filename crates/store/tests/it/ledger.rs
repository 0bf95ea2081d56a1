//! The ledger follows each change of a product's stock.

use holdfast_domain::{
    LedgerReason, Product, ProductChanges, ProductName, Stock, StockEdit, StockNote,
};
use holdfast_store::{BatchOutcome, IdempotencyKey, LockMode, ResultKind, Store, StoreError};

use crate::fixture::{lock, product, store, write_one_each};

/// Reason, delta, stock afterwards and version of each entry, oldest first.
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
    // The stock is unchanged, so versions 3 and 4 have no entries.
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

    // A user of psql, who does not raise the version.
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
    // The version is not raised, is lowered, or only the held units change.
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

/// Another transaction has written the key of an adjustment and stays open. The product is not locked for that long.
#[tokio::test]
async fn an_adjustment_does_not_wait_for_a_key_with_its_product_locked() {
    let store = crate::fixture::store().await;
    let mut settings = crate::fixture::settings(&crate::fixture::database_url(&store).await);
    // Longer than the statement timeout, which would cause another error.
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

/// Sells one unit in its own batch.
async fn sell(store: &Store, lamp: &Product) {
    let batch = lock(store, &[lamp.id], LockMode::Wait).await;
    write_one_each(batch, &[lamp.id]).await.commit().await.unwrap();
}

/// Makes the last entry so old that the next sale gets a new one.
async fn a_second_later(store: &Store) {
    let age = "UPDATE products SET entered_at = entered_at - interval '1 s'";
    sqlx::query(age).execute(store.pool()).await.unwrap();
}

async fn written(store: &Store) -> Vec<(i64, i64, i64, i64)> {
    let entries = "SELECT version, delta, stock_after, sold FROM stock_ledger ORDER BY version";
    sqlx::query_as(entries).fetch_all(store.pool()).await.unwrap()
}

#[tokio::test]
async fn sales_within_a_second_share_an_entry_that_has_all_their_units() {
    use LedgerReason::{Admission, Opening};

    let store = store().await;
    let lamp = product(&store, 10).await;
    for _ in 0..3 {
        sell(&store, &lamp).await;
    }
    let opening = (Opening, 10, 10, 1);
    assert_eq!(
        ledger(&store, &lamp).await,
        [opening, (Admission, -1, 9, 2), (Admission, -2, 7, 4)],
        "the last one is not written yet"
    );
    assert_eq!(written(&store).await, [(1, 10, 10, 0), (2, -1, 9, 1)]);
    a_second_later(&store).await;
    sell(&store, &lamp).await;
    let all = [opening, (Admission, -1, 9, 2), (Admission, -3, 6, 5)];
    assert_eq!(ledger(&store, &lamp).await, all);
    assert_eq!(written(&store).await[2], (5, -3, 6, 3));
    // In pages, including the entry that is not written yet.
    sell(&store, &lamp).await;
    let (mut versions, mut before) = (Vec::new(), None);
    loop {
        let page = store.stock_ledger(lamp.id, before, 1).await.unwrap();
        versions.extend(page.items.iter().map(|entry| entry.version));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(versions, [6, 5, 2, 1]);
}

#[tokio::test]
async fn any_other_change_of_the_stock_enters_the_units_sold_first() {
    use LedgerReason::{Adjustment, Admission, Opening, Set, Unknown};

    let store = store().await;
    let lamp = product(&store, 10).await;
    for _ in 0..2 {
        sell(&store, &lamp).await;
    }
    let locked = async || store.lock_product(lamp.id).await.unwrap().unwrap();
    locked().await.update(&stock(20)).await.unwrap();
    let sold = [(Opening, 10, 10, 1), (Admission, -1, 9, 2), (Admission, -1, 8, 3)];
    let mut all = sold.to_vec();
    all.push((Set, 12, 20, 4));
    assert_eq!(ledger(&store, &lamp).await, all);

    sell(&store, &lamp).await;
    let lock = locked().await;
    let edit = lock.stock_with(1).unwrap();
    lock.adjust(&edit, None).await.unwrap();
    all.extend([(Admission, -1, 19, 5), (Adjustment, 1, 20, 6)]);
    assert_eq!(ledger(&store, &lamp).await, all);

    // A program that writes no entries, and the previous version, which writes its own.
    let url = crate::fixture::database_url(&store).await;
    let mut psql = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
    sell(&store, &lamp).await;
    let change = "UPDATE products SET stock = stock - 4, version = version + 1";
    sqlx::query(change).execute(&mut psql).await.unwrap();
    all.extend([(Admission, -1, 19, 7), (Unknown, -4, 15, 8)]);
    assert_eq!(ledger(&store, &lamp).await, all);
    sell(&store, &lamp).await;
    let old = "WITH changed AS (UPDATE products SET stock = stock - 3, version = version + 1 RETURNING id) \
        INSERT INTO stock_ledger (product_id, version, reason, delta, stock_after, held_after, sold) \
        SELECT id, 10, 'admission', -3, 11, 0, 3 FROM changed";
    sqlx::query("SET holdfast.writes_ledger = 'on'").execute(&mut psql).await.unwrap();
    sqlx::query(old).execute(&mut psql).await.unwrap();
    all.extend([(Admission, -1, 14, 9), (Admission, -3, 11, 10)]);
    assert_eq!(ledger(&store, &lamp).await, all);
}

/// The report of a sale sums up the entries from its start to its end.
#[tokio::test]
async fn a_product_in_a_sale_has_an_entry_for_each_batch() {
    let store = store().await;
    let lamp = product(&store, 10).await;
    for _ in 0..2 {
        sell(&store, &lamp).await;
    }
    sqlx::query("UPDATE products SET sales = '[]'").execute(store.pool()).await.unwrap();
    assert_eq!(written(&store).await.len(), 3, "what was sold before the sale is not of the sale");
    sell(&store, &lamp).await;
    sell(&store, &lamp).await;
    assert_eq!(written(&store).await.len(), 5);
}

#[tokio::test]
async fn the_outcome_of_a_batch_without_an_entry_is_found() {
    let store = store().await;
    let lamp = product(&store, 10).await;
    sell(&store, &lamp).await;
    let batch = lock(&store, &[lamp.id], LockMode::Wait).await;
    let written = write_one_each(batch, &[lamp.id]).await;
    let token = written.token();
    drop(written);
    assert_eq!(store.outcome(&token).await, BatchOutcome::RolledBack);
    let batch = lock(&store, &[lamp.id], LockMode::Wait).await;
    let written = write_one_each(batch, &[lamp.id]).await;
    let token = written.token();
    written.commit().await.unwrap();
    assert_eq!(store.outcome(&token).await, BatchOutcome::Committed);
    assert_eq!(self::written(&store).await.len(), 2, "it has no entry");
}
