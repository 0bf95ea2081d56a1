//! Holds whose time is over and whose units are not back in stock.

use holdfast_domain::{HeldUnits, HoldId, ProductId};
use jiff::Timestamp;
use sqlx::{Row as _, postgres::PgRow};

use super::{batch::Batch, lock::held_units};
use crate::{Store, error::StoreError, rows::timestamp};

/// The most expired holds that one batch returns.
const EXPIRED_MAX: i64 = 1000;

/// A hold whose time is over and whose units are not back in stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiredHold {
    /// The hold.
    pub id: HoldId,
    /// Its product.
    pub product_id: ProductId,
    /// When its time was over.
    pub expired_at: Timestamp,
}

impl Store {
    /// Expired holds whose units are not back in stock, the oldest first: `limit` of those that
    /// expired at `since` or later and are not of the products `without`. Safe to cancel.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn expired_holds(
        &self,
        since: Option<Timestamp>,
        without: &[ProductId],
        limit: u32,
    ) -> Result<Vec<ExpiredHold>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, product_id, (extract(epoch FROM expires_at) * 1000000)::bigint AS expires_us \
             FROM holds WHERE status = 'active' AND expires_at <= now() \
                 AND expires_at >= 'epoch'::timestamptz + $1 * interval '1 us' \
                 AND product_id <> ALL ($2) \
             ORDER BY expires_at LIMIT $3",
        )
        .bind(since.map_or(0, Timestamp::as_microsecond))
        .bind(without.iter().map(|id| id.0).collect::<Vec<_>>())
        .bind(i64::from(limit))
        .fetch_all(self.reads())
        .await?;
        let hold = |row: &PgRow| {
            Ok(ExpiredHold {
                id: HoldId(row.try_get("id")?),
                product_id: ProductId(row.try_get("product_id")?),
                expired_at: timestamp(row.try_get("expires_us")?)?,
            })
        };
        rows.iter().map(hold).collect()
    }
}

impl Batch {
    /// The expired holds of these products whose units are not back in stock: the oldest, a bounded number of them,
    /// without those whose rows others have locked. The products must be locked by this batch.
    ///
    /// # Errors
    /// The database refuses or is not available; the transaction is over then.
    pub async fn expired_holds(
        &mut self,
        products: &[ProductId],
    ) -> Result<Vec<(HoldId, HeldUnits)>, StoreError> {
        let query = sqlx::query(
            "SELECT id, product_id, quantity, unit_price_minor, customer_ref, \
                 'expired' AS status, true AS kept FROM holds \
             WHERE status = 'active' AND expires_at <= now() AND product_id = ANY($1) \
             ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED",
        )
        .bind(products.iter().map(|id| id.0).collect::<Vec<_>>())
        .bind(EXPIRED_MAX);
        let rows = query.fetch_all(&mut self.transaction).await?;
        rows.iter().map(held_units).collect()
    }
}
