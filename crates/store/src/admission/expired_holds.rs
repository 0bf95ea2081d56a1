//! Expired holds whose units are not back in stock.

use holdfast_domain::{HeldUnits, HoldId, ProductId};
use jiff::Timestamp;

use super::{batch::Batch, lock::HeldRow};
use crate::{error::StoreError, store::Store, time::Time};

/// The most expired holds that one batch returns.
pub const EXPIRED_HOLDS_MAX: usize = 2048;

/// An expired hold whose units are not back in stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiredHold {
    /// The hold.
    pub id: HoldId,
    /// Its product.
    pub product_id: ProductId,
    /// When it expired.
    pub expired_at: Timestamp,
}

impl Store {
    /// Expired holds whose units are not back in stock, oldest first: at most `limit` of those that expired at `since`
    /// or later and are not for one of the products `without`. Safe to cancel.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn expired_holds(
        &self,
        since: Option<Timestamp>,
        without: &[ProductId],
        limit: u32,
    ) -> Result<Vec<ExpiredHold>, StoreError> {
        let without: Vec<_> = without.iter().map(|id| id.0).collect();
        let rows = sqlx::query!(
            r#"
            SELECT id, product_id, expires_at AS "expires_at: Time"
            FROM holds
            WHERE status = 'active'
                AND expires_at <= now()
                AND expires_at >= $1
                AND product_id <> ALL ($2)
            ORDER BY expires_at
            LIMIT $3
            "#,
            Time::from(since.unwrap_or(Timestamp::UNIX_EPOCH)) as Time,
            &without,
            i64::from(limit),
        )
        .fetch_all(self.reads())
        .await?;
        let holds = rows.into_iter().map(|row| ExpiredHold {
            id: HoldId(row.id),
            product_id: ProductId(row.product_id),
            expired_at: row.expires_at.to_jiff(),
        });
        Ok(holds.collect())
    }
}

impl Batch {
    /// The expired holds of these products whose units are not back in stock: for each product, the oldest ones, up to
    /// the number given with it, and at most [`EXPIRED_HOLDS_MAX`] in all. Holds whose rows other transactions have
    /// locked are left out. This batch must have locked the products.
    ///
    /// Only the index by product and time has this order, so no plan reads the expired holds of other products.
    ///
    /// # Errors
    /// The database refuses or is not available. The transaction can then no longer be used.
    pub async fn expired_holds(
        &mut self,
        products: &[(ProductId, i64)],
    ) -> Result<Vec<(HoldId, HeldUnits)>, StoreError> {
        let (ids, limits): (Vec<_>, Vec<_>) =
            products.iter().map(|(id, limit)| (id.0, *limit)).unzip();
        let rows = sqlx::query_as!(
            HeldRow,
            r#"
            SELECT expired.id AS "id!", expired.product_id AS "product_id!",
                expired.quantity AS "quantity!", expired.unit_price_minor AS "unit_price_minor!",
                expired.customer_ref, 'expired' AS "status!", true AS "kept!"
            FROM unnest($1::bigint[], $2::bigint[]) AS short (product_id, most),
            LATERAL (
                SELECT id, product_id, quantity, unit_price_minor, customer_ref
                FROM holds
                WHERE status = 'active'
                    AND (holds.product_id, expires_at) >= (short.product_id, '-infinity')
                    AND (holds.product_id, expires_at) <= (short.product_id, now())
                ORDER BY holds.product_id, expires_at
                LIMIT most
                FOR UPDATE SKIP LOCKED
            ) AS expired
            LIMIT $3
            "#,
            &ids,
            &limits,
            i64::try_from(EXPIRED_HOLDS_MAX).unwrap_or(i64::MAX),
        )
        .fetch_all(&mut self.transaction)
        .await?;
        rows.into_iter().map(HeldRow::units).collect()
    }
}
