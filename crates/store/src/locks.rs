//! Locks on rows of products for changes that are not batches: one product ([`lock_one`]), or the products of
//! a flash sale ([`lock_rows`]). A batch locks its rows in `admission::lock`. No other module locks products.
//!
//! All of them use `SELECT … FOR UPDATE`, so that they exclude each other. There are no deadlocks: a statement that
//! waits for several rows of products locks them in the order of their ids (`ORDER BY id` below the locking step).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use holdfast_domain::{Product, ProductId};
use sqlx::AssertSqlSafe;

use crate::{
    connections::Transaction,
    error::StoreError,
    locked_rows::{Tried, WhenLocked},
    products::ProductRow,
};

/// Locks the rows of these products, in the order of their ids, and returns the existing products and whether they are
/// on sale. The transaction must not wait longer than a batch needs for its work.
pub(crate) async fn lock_rows(
    transaction: &mut Transaction,
    products: &BTreeSet<ProductId>,
) -> Result<BTreeMap<ProductId, bool>, StoreError> {
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

/// Limits all later waits of the transaction for locks, because other transactions wait for the locks that it has.
pub(crate) async fn wait_at_most(
    transaction: &mut Transaction,
    wait: Duration,
) -> Result<(), StoreError> {
    let sql = format!("SET LOCAL lock_timeout = {}", wait.as_millis().max(1));
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(transaction).await?;
    Ok(())
}

/// The row of a product, with its units in holds.
struct LockedProductRow {
    id: i64,
    name: String,
    description: Option<String>,
    price_minor: i64,
    stock: i64,
    version: i64,
    held: i64,
}

/// Locks the row of a product that is on sale, and reads it with its units in holds. `None` if there is no such
/// product.
pub(crate) async fn lock_one(
    transaction: &mut Transaction,
    id: ProductId,
    waits: WhenLocked,
) -> Result<Tried<Option<(Product, i64)>>, StoreError> {
    let row = match waits {
        WhenLocked::No => {
            sqlx::query_as!(
                LockedProductRow,
                r#"
                SELECT id, name, description, price_minor, stock, version, held
                FROM products
                WHERE id = $1 AND retired_at IS NULL
                FOR UPDATE SKIP LOCKED
                "#,
                id.0,
            )
            .fetch_optional(&mut *transaction)
            .await?
        }
        WhenLocked::HandOver => {
            sqlx::query_as!(
                LockedProductRow,
                r#"
                SELECT id, name, description, price_minor, stock, version, held
                FROM products
                WHERE id = $1 AND retired_at IS NULL
                FOR UPDATE
                "#,
                id.0,
            )
            .fetch_optional(&mut *transaction)
            .await?
        }
    };
    if let Some(LockedProductRow { id, name, description, price_minor, stock, version, held }) = row
    {
        let product = ProductRow { id, name, description, price_minor, stock, version };
        return Ok(Tried::Done(Some((product.try_into()?, held))));
    }
    let version = sqlx::query_scalar!(
        "SELECT version FROM products WHERE id = $1 AND retired_at IS NULL",
        id.0,
    )
    .fetch_optional(transaction)
    .await?;
    Ok(version.map_or(Tried::Done(None), |version| Tried::Locked(Some(version))))
}
