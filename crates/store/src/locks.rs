//! Locks on rows of products for changes that are not batches: one product ([`Store::lock_product`]), or the products of
//! a flash sale ([`lock_rows`]). A batch locks its rows in `admission::lock`. No other module locks products.
//!
//! All of these lock with `SELECT … FOR UPDATE`, so that they exclude each other. There is no deadlock: a statement that
//! waits for several rows of products locks them in the order of their ids (`ORDER BY id` below the locking step).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use holdfast_domain::ProductId;
use sqlx::{AssertSqlSafe, Row as _};

use crate::{LockedProduct, Store, StoreError, calls::again, connections::Transaction, rows};

/// Locks the rows of these products, in the order of their ids, and says of those that exist whether they are
/// sold. Once the first is locked, the transaction waits for nothing longer than `wait`, the time of another batch.
pub(crate) async fn lock_rows(
    transaction: &mut Transaction,
    products: &BTreeSet<ProductId>,
    wait: Duration,
) -> Result<BTreeMap<ProductId, bool>, StoreError> {
    wait_at_most(transaction, wait).await?;
    let rows = sqlx::query(
        "SELECT id, retired_at IS NULL AS sold FROM products \
         WHERE id = ANY($1) ORDER BY id FOR UPDATE",
    )
    .bind(products.iter().map(|id| id.0).collect::<Vec<_>>())
    .fetch_all(transaction)
    .await?;
    rows.iter().map(|row| Ok((ProductId(row.try_get("id")?), row.try_get("sold")?))).collect()
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

impl Store {
    /// Locks the row of a product that is on sale. Safe to cancel.
    ///
    /// # Errors
    /// [`StoreError::LockTimeout`] if others hold it for too long; the database is not available.
    pub async fn lock_product(&self, id: ProductId) -> Result<Option<LockedProduct>, StoreError> {
        again(|| self.try_lock_product(id)).await
    }

    async fn try_lock_product(&self, id: ProductId) -> Result<Option<LockedProduct>, StoreError> {
        let mut transaction = self.begin_change().await?;
        let row = sqlx::query(
            "SELECT id, name, description, price_minor, stock, version, held FROM products \
             WHERE id = $1 AND retired_at IS NULL FOR UPDATE",
        )
        .bind(id.0)
        .fetch_optional(&mut transaction)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let (product, held) = (rows::product(&row)?, row.try_get("held")?);
        Ok(Some(LockedProduct { transaction, product, held }))
    }
}
