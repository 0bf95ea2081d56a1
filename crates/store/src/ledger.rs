//! Reading the ledger of stock.

use holdfast_domain::{LedgerEntry, ProductId, Stock};
use sqlx::{Row as _, postgres::PgRow};

use crate::{
    Page, Store, StoreError,
    rows::{corrupt, timestamp, word},
};

/// The columns that [`entry`] reads.
macro_rules! ledger_columns {
    () => {
        "product_id, version, reason, delta, stock_after, held_after, sold, returned, held, note, \
         (extract(epoch FROM created_at) * 1000000)::bigint AS created_us"
    };
}
pub(crate) use ledger_columns;

impl Store {
    /// The changes of a product's stock, newest first, from the one before `before` on. A product
    /// that never existed has none; every other has at least the one that it began with.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn stock_ledger(
        &self,
        product: ProductId,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Page<LedgerEntry, i64>, StoreError> {
        let rows = sqlx::query(concat!(
            "SELECT ",
            ledger_columns!(),
            " FROM stock_ledger WHERE product_id = $1 AND version < $2 \
             ORDER BY version DESC LIMIT $3"
        ))
        .bind(product.0)
        .bind(before.unwrap_or(i64::MAX))
        .bind(limit.saturating_add(1))
        .fetch_all(self.reads())
        .await?;
        let entries = rows.iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Page::cut(entries, limit, |entry: &LedgerEntry| entry.version))
    }

    /// The change that gave a product this version.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn stock_change(
        &self,
        product: ProductId,
        version: i64,
    ) -> Result<Option<LedgerEntry>, StoreError> {
        let row = sqlx::query(concat!(
            "SELECT ",
            ledger_columns!(),
            " FROM stock_ledger WHERE product_id = $1 AND version = $2"
        ))
        .bind(product.0)
        .bind(version)
        .fetch_optional(self.reads())
        .await?;
        row.as_ref().map(entry).transpose()
    }
}

pub(crate) fn entry(row: &PgRow) -> Result<LedgerEntry, StoreError> {
    Ok(LedgerEntry {
        product_id: ProductId(row.try_get("product_id")?),
        version: row.try_get("version")?,
        reason: word("reason in the ledger", row.try_get("reason")?)?,
        delta: row.try_get("delta")?,
        stock_after: Stock::new(row.try_get("stock_after")?).map_err(corrupt("stock"))?,
        held_after: row.try_get("held_after")?,
        sold: row.try_get("sold")?,
        returned: row.try_get("returned")?,
        held: row.try_get("held")?,
        note: row.try_get("note")?,
        created_at: timestamp(row.try_get("created_us")?)?,
    })
}
