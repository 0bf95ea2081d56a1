//! Reads the stock ledger.

use holdfast_domain::{LedgerEntry, ProductId, Stock};

use crate::{
    error::StoreError,
    page::Page,
    rows::{corrupt, word},
    sql::checked,
    store::Store,
    time::Time,
};

/// The columns of a [`LedgerRow`].
macro_rules! ledger_columns {
    ($($to:tt)+) => { $crate::sql::part!([r#"
        product_id, version, reason, delta, stock_after, held_after, sold, returned, held, note,
        created_at AS "created_at: Time"
    "#] $($to)+) };
}
pub(crate) use ledger_columns;

/// A row of `stock_ledger`.
#[derive(Debug)]
pub(crate) struct LedgerRow {
    pub product_id: i64,
    pub version: i64,
    pub reason: String,
    pub delta: i64,
    pub stock_after: i64,
    pub held_after: i64,
    pub sold: i64,
    pub returned: i64,
    pub held: i64,
    pub note: Option<String>,
    pub created_at: Time,
}

impl TryFrom<LedgerRow> for LedgerEntry {
    type Error = StoreError;

    fn try_from(row: LedgerRow) -> Result<Self, StoreError> {
        Ok(Self {
            product_id: ProductId(row.product_id),
            version: row.version,
            reason: word("reason in the ledger", &row.reason)?,
            delta: row.delta,
            stock_after: Stock::new(row.stock_after).map_err(corrupt("stock"))?,
            held_after: row.held_after,
            sold: row.sold,
            returned: row.returned,
            held: row.held,
            note: row.note,
            created_at: row.created_at.to_jiff(),
        })
    }
}

impl Store {
    /// The changes of a product's stock, newest first, before the version `before`. A product that never existed has no
    /// entries; every other product has at least the opening entry. Units that were sold since the last entry come
    /// first; that entry is not written yet and can grow.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn stock_ledger(
        &self,
        product: ProductId,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Page<LedgerEntry, i64>, StoreError> {
        self.read(|reads| async move {
            let rows = checked!(
                LedgerRow,
                [r#"SELECT product_id AS "product_id!", version AS "version!", reason AS "reason!",
                        delta AS "delta!", stock_after AS "stock_after!", held_after AS "held_after!",
                        sold AS "sold!", returned AS "returned!", held AS "held!", note,
                        created_at AS "created_at!: Time"
                    FROM (
                        (
                            SELECT id AS product_id, version, 'admission' AS reason,
                                -sold_since_entry AS delta, stock AS stock_after, held AS held_after,
                                sold_since_entry AS sold, 0::bigint AS returned, 0::bigint AS held,
                                NULL AS note, updated_at AS created_at
                            FROM products
                            WHERE id = $1 AND version < $2 AND sold_since_entry <> 0
                        ) UNION ALL (
                            SELECT product_id, version, reason, delta, stock_after, held_after,
                                sold, returned, held, note, created_at
                            FROM stock_ledger
                            WHERE product_id = $1 AND version < $2
                            ORDER BY version DESC
                            LIMIT $3
                        )
                    ) AS entry
                    ORDER BY version DESC
                    LIMIT $3"#],
                product.0,
                before.unwrap_or(i64::MAX),
                limit.saturating_add(1),
            )
            .fetch_all(reads)
            .await?;
            let entries = rows.into_iter().map(LedgerEntry::try_from).collect::<Result<_, _>>()?;
            Ok(Page::cut(entries, limit, |entry: &LedgerEntry| entry.version))
        })
        .await
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
        let found = self.stock_ledger(product, Some(version.saturating_add(1)), 1).await?;
        Ok(found.items.into_iter().find(|entry| entry.version == version))
    }
}
