//! The sales in a product's row: see [`sales`](crate::sales).

use holdfast_domain::{SaleWindow, Selling};
use serde::Deserialize;
use sqlx::{Row as _, postgres::PgRow};

use crate::{error::StoreError, rows::timestamp};

/// A sale as it is stored in the row of its product.
#[derive(Deserialize)]
struct OnRow {
    from: i64,
    to: i64,
    limit: Option<u32>,
    held: bool,
    after: i64,
}

/// Reads the columns `sales` and `now_us` of a locked product.
pub(crate) fn selling(row: &PgRow) -> Result<Selling, StoreError> {
    let (Some(sales), Some(now)) =
        (row.try_get::<Option<&str>, _>("sales")?, row.try_get::<Option<i64>, _>("now_us")?)
    else {
        return Ok(Selling::Always);
    };
    let sales: Vec<OnRow> = holdfast_domain::json::from_str(sales)
        .map_err(|error| StoreError::Corrupt { what: "sale", reason: error.to_string() })?;
    let window = |sale: OnRow| {
        Ok(SaleWindow {
            starts_at: timestamp(sale.from)?,
            ends_at: timestamp(sale.to)?,
            per_customer: sale.limit,
            held_back: sale.held,
            after_order: sale.after,
        })
    };
    let windows = sales.into_iter().map(window).collect::<Result<Vec<_>, StoreError>>()?;
    Ok(Selling::at(&windows, timestamp(now)?))
}
