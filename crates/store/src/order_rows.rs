//! Converts rows of `orders` to orders.

use holdfast_domain::{
    CustomerRef, Metadata, Money, Order, OrderId, OrderLine, ProductId, Quantity, Transition,
};
use serde_json::value::RawValue;

use crate::{
    error::StoreError,
    rows::{corrupt, word},
    time::Time,
};

/// The columns of an [`OrderRow`] from a table or subquery named `orders`, without `earlier` and `found`.
macro_rules! order_columns {
    ($($to:tt)+) => { $crate::sql::part!([r#"
        orders.id, orders.product_id, orders.quantity, orders.unit_price_minor,
        orders.status, orders.attempt,
        orders.attempt > coalesce(orders.not_taken, 0) AS "may_be_fulfilled!",
        orders.failure, orders.customer_ref,
        coalesce(orders.metadata_text, orders.metadata::text) AS metadata,
        orders.created_at AS "created_at: Time",
        orders.processing_at AS "processing_at: Time",
        orders.finished_at AS "finished_at: Time",
    "# {$crate::order_rows::more_lines}] $($to)+) };
}
pub(crate) use order_columns;

/// The column `more_lines` from `orders`: the lines after the first, as an array of product, quantity and price in
/// turn. It is NULL for an order of one line, without reading the table of lines.
macro_rules! more_lines {
    ($($to:tt)+) => { $crate::sql::part!([r#"
        CASE WHEN orders.line_count > 1 THEN ARRAY(
            SELECT part.value
            FROM order_lines AS more
            CROSS JOIN unnest(ARRAY[more.product_id, more.quantity, more.unit_price_minor])
                WITH ORDINALITY AS part (value, place)
            WHERE more.order_id = orders.id
            ORDER BY more.line, part.place
        ) END AS more_lines
    "#] $($to)+) };
}
pub(crate) use more_lines;

/// An upper estimate of the size of a row of `orders` in bytes when it is sent, also as JSON, without its history. A
/// `jsonb` column is measured as text.
macro_rules! order_bytes {
    ($($to:tt)+) => { $crate::sql::part!([r#"
        (512::bigint + 64 * orders.line_count
            + 6 * coalesce(octet_length(orders.customer_ref), 0)
            + coalesce(octet_length(to_json(orders.failure)::text), 0)
            + coalesce(octet_length(orders.metadata_text), octet_length(orders.metadata::text), 0))
    "#] $($to)+) };
}
pub(crate) use order_bytes;

/// Like [`order_bytes`], with its history.
macro_rules! order_bytes_with_history {
    ($($to:tt)+) => { $crate::sql::part!([
        "(coalesce(octet_length(orders.earlier::text), 0) + " {$crate::order_rows::order_bytes} ")"
    ] $($to)+) };
}
pub(crate) use order_bytes_with_history;

/// A row of `orders`.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct OrderRow {
    pub id: i64,
    pub product_id: i64,
    pub quantity: i32,
    pub unit_price_minor: i64,
    pub status: String,
    pub attempt: i32,
    #[sqlx(rename = "may_be_fulfilled!")]
    pub may_be_fulfilled: bool,
    pub failure: Option<String>,
    pub customer_ref: Option<String>,
    pub metadata: Option<String>,
    #[sqlx(rename = "created_at: Time")]
    pub created_at: Time,
    #[sqlx(rename = "processing_at: Time")]
    pub processing_at: Option<Time>,
    #[sqlx(rename = "finished_at: Time")]
    pub finished_at: Option<Time>,
    pub more_lines: Option<Vec<i64>>,
    /// The text of the history, if the statement reads it.
    #[sqlx(default)]
    pub earlier: Option<String>,
    /// The number of rows that the statement has found, including those beyond the limit of bytes.
    #[sqlx(rename = "found!")]
    pub found: i64,
}

impl OrderRow {
    /// Whether its history has steps that this version does not know.
    pub fn has_unknown_steps(&self) -> bool {
        history(self.earlier.as_deref()).1
    }
}

impl TryFrom<OrderRow> for Order {
    type Error = StoreError;

    fn try_from(row: OrderRow) -> Result<Self, StoreError> {
        let first = order_line(row.product_id, row.quantity.into(), row.unit_price_minor)?;
        Ok(Self {
            id: OrderId(row.id),
            lines: order_lines(first, row.more_lines)?,
            status: word("order status", &row.status)?,
            customer_ref: row.customer_ref.map(CustomerRef::kept),
            metadata: row.metadata.map(Metadata::kept),
            attempt: row.attempt,
            may_be_fulfilled: row.may_be_fulfilled,
            failure: row.failure,
            created_at: row.created_at.to_jiff(),
            processing_at: row.processing_at.map(Time::to_jiff),
            finished_at: row.finished_at.map(Time::to_jiff),
            earlier: history(row.earlier.as_deref()).0,
        })
    }
}

/// All lines of an order: the first one, and the others from [`more_lines`].
pub(crate) fn order_lines(
    first: OrderLine,
    more: Option<Vec<i64>>,
) -> Result<Vec<OrderLine>, StoreError> {
    let more = more.unwrap_or_default();
    let more =
        more.as_chunks().0.iter().map(|&[product, units, price]| order_line(product, units, price));
    std::iter::once(Ok(first)).chain(more).collect()
}

pub(crate) fn order_line(
    product_id: i64,
    units: i64,
    price_minor: i64,
) -> Result<OrderLine, StoreError> {
    Ok(OrderLine {
        product_id: ProductId(product_id),
        quantity: Quantity::new(units, i32::MAX).map_err(corrupt("quantity"))?,
        unit_price: Money::from_minor(price_minor).map_err(corrupt("unit price"))?,
    })
}

/// A step as it is stored in `orders.earlier`.
#[derive(serde::Deserialize)]
struct StoredStep {
    status: String,
    at: jiff::Timestamp,
    detail: Option<String>,
    by: Option<String>,
}

/// Parses the text of `orders.earlier`. Skips steps that this version does not know, because a later version may have
/// written them. Also returns whether there were such steps.
pub(crate) fn history(text: Option<&str>) -> (Vec<Transition>, bool) {
    let Some(text) = text else { return (Vec::new(), false) };
    let Ok(all) = holdfast_domain::json::from_str::<Vec<&RawValue>>(text) else {
        return (Vec::new(), true);
    };
    let known: Vec<_> = all.iter().filter_map(|step| transition(step)).collect();
    let is_partial = known.len() < all.len();
    (known, is_partial)
}

fn transition(step: &RawValue) -> Option<Transition> {
    let StoredStep { status, at, detail, by } = holdfast_domain::json::from_str(step.get()).ok()?;
    Some(Transition { status: status.parse().ok()?, at, detail, by })
}

#[cfg(test)]
mod tests {
    use holdfast_domain::OrderStatus;

    use super::*;

    #[test]
    fn unknown_steps_are_left_out_of_a_history() {
        let known = r#"{"status": "failed", "at": "2026-01-02T03:04:05Z", "detail": "why"}"#;
        for unknown in [
            r#"{"status": "returned", "at": "2026-01-02T03:04:06Z"}"#,
            r#"{"status": 7}"#,
            "null",
            "[]",
        ] {
            let (steps, is_partial) = history(Some(&format!("[{unknown}, {known}]")));
            assert!(is_partial, "{unknown}");
            assert_eq!(steps.len(), 1, "{unknown}");
            assert_eq!(steps[0].status, OrderStatus::Failed);
        }
        assert!(!history(Some(&format!("[{known}, {known}]"))).1);
        assert_eq!(history(Some(r#"{"version": 2}"#)), (Vec::new(), true));
    }
}
