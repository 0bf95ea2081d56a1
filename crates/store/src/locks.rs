//! Locks on rows of products for changes that are not batches: one product ([`lock_one`]), or the products of
//! a flash sale ([`lock_rows`]). A batch locks its rows in `admission::lock`. No other module locks products.
//!
//! All of these lock with `SELECT … FOR UPDATE`, so that they exclude each other. There is no deadlock: a statement that
//! waits for several rows of products locks them in the order of their ids (`ORDER BY id` below the locking step).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use holdfast_domain::{Product, ProductId};
use sqlx::AssertSqlSafe;

use crate::{connections::Transaction, error::StoreError, products::ProductRow};

/// Locks the rows of these products, in the order of their ids, and says of those that exist whether they are
/// sold. Once the first is locked, the transaction waits for nothing longer than `wait`, the time of another batch.
pub(crate) async fn lock_rows(
    transaction: &mut Transaction,
    products: &BTreeSet<ProductId>,
    wait: Duration,
) -> Result<BTreeMap<ProductId, bool>, StoreError> {
    wait_at_most(transaction, wait).await?;
    let products: Vec<_> = products.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"
        SELECT id, retired_at IS NULL AS "sold!"
        FROM products
        WHERE id = ANY ($1)
        ORDER BY id
        FOR UPDATE
        "#,
        &products,
    )
    .fetch_all(transaction)
    .await?;
    Ok(rows.into_iter().map(|row| (ProductId(row.id), row.sold)).collect())
}

/// Limits all further waits of the transaction for locks, because other transactions wait for the locks that it has.
pub(crate) async fn wait_at_most(
    transaction: &mut Transaction,
    wait: Duration,
) -> Result<(), StoreError> {
    let sql = format!("SET LOCAL lock_timeout = {}", wait.as_millis().max(1));
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(transaction).await?;
    Ok(())
}

/// Locks the row of a product that is on sale, and reads it and the units of it in holds.
pub(crate) async fn lock_one(
    transaction: &mut Transaction,
    id: ProductId,
) -> Result<Option<(Product, i64)>, StoreError> {
    let row = sqlx::query!(
        r#"
        SELECT id, name, description, price_minor, stock, version, held
        FROM products
        WHERE id = $1 AND retired_at IS NULL
        FOR UPDATE
        "#,
        id.0,
    )
    .fetch_optional(transaction)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let product = ProductRow {
        id: row.id,
        name: row.name,
        description: row.description,
        price_minor: row.price_minor,
        stock: row.stock,
        version: row.version,
    };
    Ok(Some((product.try_into()?, row.held)))
}
