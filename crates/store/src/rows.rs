//! From rows to the types of the domain. What the schema's constraints rule out is an error here,
//! not a panic: somebody may have changed the schema.

use holdfast_domain::{
    CustomerRef, Description, Metadata, Money, Order, OrderId, OrderLine, Product, ProductId,
    ProductName, Quantity, Stock, Transition, UnknownWord,
};
use sqlx::{Row, postgres::PgRow};

use crate::StoreError;

pub(crate) fn corrupt(what: &'static str) -> impl FnOnce(holdfast_domain::Invalid) -> StoreError {
    move |invalid| StoreError::Corrupt { what, reason: invalid.to_string() }
}

/// Reads the columns `id, name, description, price_minor, stock, version`.
pub(crate) fn product(row: &PgRow) -> Result<Product, StoreError> {
    let description: Option<String> = row.try_get("description")?;
    Ok(Product {
        id: ProductId(row.try_get("id")?),
        name: ProductName::kept(row.try_get("name")?),
        description: description.map(Description::kept),
        price: Money::from_minor(row.try_get("price_minor")?).map_err(corrupt("price"))?,
        stock: Stock::new(row.try_get("stock")?).map_err(corrupt("stock"))?,
        version: row.try_get("version")?,
    })
}

/// The column `more_lines`, from `orders` under that name: the lines after the first, as an array of
/// product, quantity and price in turn; NULL without looking for an order of one line.
macro_rules! more_lines {
    () => {
        "CASE WHEN orders.line_count > 1 THEN ARRAY( \
             SELECT part.value FROM order_lines AS more \
             CROSS JOIN unnest(ARRAY[more.product_id, more.quantity, more.unit_price_minor]) \
                 WITH ORDINALITY AS part (value, place) \
             WHERE more.order_id = orders.id ORDER BY more.line, part.place) END AS more_lines"
    };
}
pub(crate) use more_lines;

/// The column `metadata`, from `orders` under that name: as its client sent it, or as the version before
/// has kept it.
macro_rules! metadata {
    () => {
        "coalesce(orders.metadata_text, orders.metadata::text) AS metadata"
    };
}
pub(crate) use metadata;

/// About how many bytes a row of `orders` under that name is at most when it is sent, as JSON as well,
/// without its history or with it. A `jsonb` column is measured as the text that it becomes.
macro_rules! order_bytes {
    () => {
        "(512::bigint + 64 * orders.line_count + 6 * coalesce(octet_length(orders.customer_ref), 0) \
             + coalesce(octet_length(to_json(orders.failure)::text), 0) \
             + coalesce(octet_length(orders.metadata_text), octet_length(orders.metadata::text), 0))"
    };
    (with history) => {
        concat!(
            "(coalesce(octet_length(orders.earlier::text), 0) + ",
            $crate::rows::order_bytes!(),
            ")"
        )
    };
}
pub(crate) use order_bytes;

/// The columns that [`order`] reads, from `orders` under that name, with the order's history or
/// without. Times as microseconds since 1970.
macro_rules! order_columns {
    () => {
        $crate::rows::order_columns!("NULL::text")
    };
    (with history) => {
        $crate::rows::order_columns!("orders.earlier::text")
    };
    ($earlier:literal) => {
        concat!(
            "orders.id, orders.product_id, orders.quantity, orders.unit_price_minor, \
             orders.status, orders.attempt, \
             orders.attempt > coalesce(orders.not_taken, 0) AS may_be_fulfilled, orders.failure, orders.customer_ref, ",
            $crate::rows::metadata!(),
            ", ",
            $earlier,
            " AS earlier, \
             (extract(epoch FROM orders.created_at) * 1000000)::bigint AS created_us, \
             (extract(epoch FROM orders.processing_at) * 1000000)::bigint AS processing_us, \
             (extract(epoch FROM orders.finished_at) * 1000000)::bigint AS finished_us, ",
            $crate::rows::more_lines!()
        )
    };
}
pub(crate) use order_columns;

pub(crate) fn order(row: &PgRow) -> Result<Order, StoreError> {
    let metadata: Option<String> = row.try_get("metadata")?;
    Ok(Order {
        id: OrderId(row.try_get("id")?),
        lines: lines(row)?,
        status: word("order status", row.try_get("status")?)?,
        customer_ref: customer_ref(row)?,
        metadata: metadata.map(Metadata::kept),
        attempt: row.try_get("attempt")?,
        may_be_fulfilled: row.try_get("may_be_fulfilled")?,
        failure: row.try_get("failure")?,
        created_at: timestamp(row.try_get("created_us")?)?,
        processing_at: optional_timestamp(row, "processing_us")?,
        finished_at: optional_timestamp(row, "finished_us")?,
        earlier: earlier(row.try_get("earlier")?)?,
    })
}

/// Reads `product_id, quantity, unit_price_minor`.
pub(crate) fn first_line(row: &PgRow) -> Result<OrderLine, StoreError> {
    let units: i32 = row.try_get("quantity")?;
    line(row.try_get("product_id")?, units.into(), row.try_get("unit_price_minor")?)
}

/// Reads the columns of [`first_line`], and `more_lines`.
pub(crate) fn lines(row: &PgRow) -> Result<Vec<OrderLine>, StoreError> {
    let first = first_line(row)?;
    let more: Option<Vec<i64>> = row.try_get("more_lines")?;
    let more = more.unwrap_or_default();
    let more =
        more.as_chunks().0.iter().map(|&[product, units, price]| line(product, units, price));
    std::iter::once(Ok(first)).chain(more).collect()
}

fn line(product_id: i64, units: i64, price_minor: i64) -> Result<OrderLine, StoreError> {
    Ok(OrderLine {
        product_id: ProductId(product_id),
        quantity: Quantity::new(units, i32::MAX).map_err(corrupt("quantity"))?,
        unit_price: Money::from_minor(price_minor).map_err(corrupt("unit price"))?,
    })
}

/// A step as it stands in `orders.earlier`.
#[derive(serde::Deserialize)]
struct Step {
    status: String,
    at: jiff::Timestamp,
    detail: Option<String>,
    by: Option<String>,
}

/// Reads the text of `orders.earlier`.
pub(crate) fn earlier(json: Option<&str>) -> Result<Vec<Transition>, StoreError> {
    let Some(json) = json else { return Ok(Vec::new()) };
    let steps: Vec<Step> = holdfast_domain::json::from_str(json).map_err(|error| {
        StoreError::Corrupt { what: "history of an order", reason: error.to_string() }
    })?;
    steps
        .into_iter()
        .map(|Step { status, at, detail, by }| {
            Ok(Transition { status: word("order status", &status)?, at, detail, by })
        })
        .collect()
}

/// Reads `customer_ref`.
pub(crate) fn customer_ref(row: &PgRow) -> Result<Option<CustomerRef>, StoreError> {
    Ok(row.try_get::<Option<String>, _>("customer_ref")?.map(CustomerRef::kept))
}

/// One of the words that a column may hold.
pub(crate) fn word<T>(what: &'static str, text: &str) -> Result<T, StoreError>
where
    T: std::str::FromStr<Err = UnknownWord>,
{
    text.parse()
        .map_err(|error: UnknownWord| StoreError::Corrupt { what, reason: error.to_string() })
}

pub(crate) fn optional_timestamp(
    row: &PgRow,
    column: &str,
) -> Result<Option<jiff::Timestamp>, StoreError> {
    row.try_get::<Option<i64>, _>(column)?.map(timestamp).transpose()
}

pub(crate) fn timestamp(microseconds: i64) -> Result<jiff::Timestamp, StoreError> {
    jiff::Timestamp::from_microsecond(microseconds)
        .map_err(|error| StoreError::Corrupt { what: "time", reason: error.to_string() })
}
