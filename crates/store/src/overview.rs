//! The data of the whole shop for an operator's overview.

use holdfast_domain::{ProductId, ProductName, Stock};

use crate::{error::StoreError, page::Page, rows::corrupt, store::Store};

/// The stock of a product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StockLevel {
    pub id: ProductId,
    pub name: ProductName,
    /// Units that can be ordered.
    pub stock: Stock,
    /// Units in active holds, which are not part of `stock`.
    pub held: i64,
}

impl Store {
    /// The stock of the products on sale, by id, starting after `after`.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn stock_levels(
        &self,
        after: Option<ProductId>,
        limit: i64,
    ) -> Result<Page<StockLevel, ProductId>, StoreError> {
        self.read(|reads| async move {
            let rows = sqlx::query!(
                "
                SELECT id, name, stock, held
                FROM products
                WHERE retired_at IS NULL AND id > $1
                ORDER BY id
                LIMIT $2
                ",
                after.map_or(i64::MIN, |id| id.0),
                limit.saturating_add(1),
            )
            .fetch_all(reads)
            .await?;
            let levels = rows.into_iter().map(|row| {
                Ok(StockLevel {
                    id: ProductId(row.id),
                    name: ProductName::kept(row.name),
                    stock: Stock::new(row.stock).map_err(corrupt("stock"))?,
                    held: row.held,
                })
            });
            let levels = levels.collect::<Result<Vec<_>, StoreError>>()?;
            Ok(Page::cut(levels, limit, |level| level.id))
        })
        .await
    }
}
