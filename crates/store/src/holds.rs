//! Reading holds. They change in batches only: see `admission`.

use holdfast_domain::{Hold, HoldId, Money, OrderId, ProductId, Quantity};
use sqlx::{Row as _, postgres::PgRow};

use crate::{
    Store, StoreError,
    rows::{self, corrupt, timestamp},
};

/// The columns that [`hold`] reads. A hold whose time is over reads as expired, whether or not
/// anybody has written that down.
macro_rules! hold_columns {
    () => {
        "id, product_id, quantity, unit_price_minor, customer_ref, order_id, \
         CASE WHEN status = 'active' AND expires_at <= now() THEN 'expired' ELSE status END AS status, \
         (extract(epoch FROM expires_at) * 1000000)::bigint AS expires_us, \
         (extract(epoch FROM created_at) * 1000000)::bigint AS created_us, \
         (extract(epoch FROM ended_at) * 1000000)::bigint AS ended_us"
    };
}

impl Store {
    /// One hold.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn hold(&self, id: HoldId) -> Result<Option<Hold>, StoreError> {
        let row = sqlx::query(concat!("SELECT ", hold_columns!(), " FROM holds WHERE id = $1"))
            .bind(id.0)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(hold).transpose()
    }
}

fn hold(row: &PgRow) -> Result<Hold, StoreError> {
    let units: i32 = row.try_get("quantity")?;
    let order_id: Option<i64> = row.try_get("order_id")?;
    Ok(Hold {
        id: HoldId(row.try_get("id")?),
        product_id: ProductId(row.try_get("product_id")?),
        quantity: Quantity::new(units.into(), i32::MAX).map_err(corrupt("quantity"))?,
        unit_price: Money::from_minor(row.try_get("unit_price_minor")?)
            .map_err(corrupt("unit price"))?,
        status: rows::word("hold status", row.try_get("status")?)?,
        customer_ref: rows::customer_ref(row)?,
        expires_at: timestamp(row.try_get("expires_us")?)?,
        created_at: timestamp(row.try_get("created_us")?)?,
        ended_at: rows::optional_timestamp(row, "ended_us")?,
        order_id: order_id.map(OrderId),
    })
}
