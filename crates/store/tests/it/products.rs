use holdfast_domain::{ProductChanges, ProductDescription, ProductId, Stock, StockEdit};
use holdfast_store::{MissedRows, StoreError};

use crate::fixture::{self, product, store};

#[tokio::test]
async fn a_product_is_read_back_as_it_was_created() {
    let store = store().await;
    let mut new = fixture::new_product(5);
    new.description = Some(ProductDescription::new("Grün & hell".to_owned()).unwrap());
    let made = store.create_product(&new).await.unwrap();
    assert_eq!(store.product(made.id).await.unwrap(), Some(made.clone()));
    assert_eq!((made.name, made.description, made.price), (new.name, new.description, new.price));
    assert_eq!((made.stock.units(), made.version), (5, 1));
    assert_eq!(store.product(ProductId(made.id.0 + 1)).await.unwrap(), None);
}

#[tokio::test]
async fn an_update_changes_only_the_given_fields() {
    let store = store().await;
    let before = product(&store, 5).await;
    let locked = store.lock_product(before.id).await.unwrap().unwrap();
    assert_eq!(locked.next_version(), 2);
    let patch = ProductChanges {
        stock: Some(StockEdit::set(Stock::new(9).unwrap())),
        ..ProductChanges::default()
    };
    let after = locked.update(&patch).await.unwrap();
    assert_eq!((after.stock.units(), after.version), (9, 2));
    assert_eq!((&after.name, after.price), (&before.name, before.price));
    assert_eq!(store.product(before.id).await.unwrap(), Some(after));
}

#[tokio::test]
async fn a_dropped_lock_changes_nothing_and_is_released() {
    let store = store().await;
    let before = product(&store, 5).await;
    drop(store.lock_product(before.id).await.unwrap().unwrap());
    let again = store.lock_product(before.id).await.unwrap().unwrap();
    assert_eq!(*again.product(), before);
}

#[tokio::test]
async fn a_locked_row_causes_a_lock_timeout_and_reads_do_not_wait() {
    let store = store().await;
    let lamp = product(&store, 5).await;
    let holder = store.lock_product(lamp.id).await.unwrap().unwrap();
    let error = store.lock_product(lamp.id).await.unwrap_err();
    assert!(matches!(error, StoreError::LockTimeout(_)), "{error:?}");
    assert_eq!(store.product(lamp.id).await.unwrap().unwrap(), lamp);
    drop(holder);
}

#[tokio::test]
async fn a_deleted_product_is_gone_from_the_shop_and_stays_in_the_database() {
    let store = store().await;
    let lamp = product(&store, 5).await;
    store.lock_product(lamp.id).await.unwrap().unwrap().retire().await.unwrap();
    assert_eq!(store.product(lamp.id).await.unwrap(), None);
    assert!(store.lock_product(lamp.id).await.unwrap().is_none());
    let products = [lamp.id, holdfast_domain::ProductId(999)].into();
    let seen = store.seen(&MissedRows { products, ..MissedRows::default() }).await.unwrap();
    assert_eq!(seen.products, [(lamp.id, 2)].into());
    let error = sqlx::query("DELETE FROM products").execute(store.pool()).await.unwrap_err();
    assert!(error.to_string().contains("retired, never deleted"), "{error}");
}

#[tokio::test]
async fn a_change_by_foreign_sql_raises_the_version() {
    let store = store().await;
    let lamp = product(&store, 5).await;
    let url = fixture::database_url(&store).await;
    let mut psql = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
    let mut version = lamp.version;
    let mut after = async |change: &str| {
        let sql = format!("UPDATE products SET {change}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut psql).await.unwrap();
        let now: i64 = sqlx::query_scalar("SELECT version FROM products WHERE id = $1")
            .bind(lamp.id.0)
            .fetch_one(&mut psql)
            .await
            .unwrap();
        now - std::mem::replace(&mut version, now)
    };
    for change in [
        "name = 'Torch'",
        "description = 'bright'",
        "description = NULL",
        "price_minor = 7",
        "stock = stock + 1",
        "stock = stock - 1, held = held + 1",
        "retired_at = now()",
        "retired_at = NULL",
        "price_minor = 8, version = version",
        "price_minor = 9, version = version + 1",
        "price_minor = 10, version = 1",
        "version = 1",
        "price_minor = price_minor, version = version - 3",
    ] {
        assert_eq!(after(change).await, 1, "{change}");
    }
    for change in ["updated_at = now()", "name = name, stock = stock", "held = held"] {
        assert_eq!(after(change).await, 0, "{change}");
    }
    assert_eq!(after("price_minor = 11, version = version + 5").await, 5);
}
