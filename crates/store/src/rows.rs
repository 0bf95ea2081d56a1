//! From rows to the types of the domain. What the schema's constraints rule out is an error here,
//! not a panic: somebody may have changed the schema.

use holdfast_domain::{
    Description, Money, Order, OrderId, OrderStatus, Product, ProductId, ProductName, Quantity,
    Stock,
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
        name: ProductName::new(row.try_get("name")?).map_err(corrupt("product name"))?,
        description: description
            .map(Description::new)
            .transpose()
            .map_err(corrupt("product description"))?,
        price: Money::from_minor(row.try_get("price_minor")?).map_err(corrupt("price"))?,
        stock: Stock::new(row.try_get("stock")?).map_err(corrupt("stock"))?,
        version: row.try_get("version")?,
    })
}

/// The columns that [`order`] reads. Times as microseconds since 1970.
macro_rules! order_columns {
    () => {
        "id, product_id, quantity, unit_price_minor, status, attempt, failure, \
         (extract(epoch FROM created_at) * 1000000)::bigint AS created_us, \
         (extract(epoch FROM processing_at) * 1000000)::bigint AS processing_us, \
         (extract(epoch FROM finished_at) * 1000000)::bigint AS finished_us"
    };
}
pub(crate) use order_columns;

pub(crate) fn order(row: &PgRow) -> Result<Order, StoreError> {
    let status: &str = row.try_get("status")?;
    let units: i32 = row.try_get("quantity")?;
    Ok(Order {
        id: OrderId(row.try_get("id")?),
        product_id: ProductId(row.try_get("product_id")?),
        quantity: Quantity::new(units.into(), i32::MAX).map_err(corrupt("quantity"))?,
        unit_price: Money::from_minor(row.try_get("unit_price_minor")?)
            .map_err(corrupt("unit price"))?,
        status: status.parse::<OrderStatus>().map_err(|error| StoreError::Corrupt {
            what: "order status",
            reason: error.to_string(),
        })?,
        attempt: row.try_get("attempt")?,
        failure: row.try_get("failure")?,
        created_at: timestamp(row.try_get("created_us")?)?,
        processing_at: row
            .try_get::<Option<i64>, _>("processing_us")?
            .map(timestamp)
            .transpose()?,
        finished_at: row.try_get::<Option<i64>, _>("finished_us")?.map(timestamp).transpose()?,
    })
}

pub(crate) fn timestamp(microseconds: i64) -> Result<jiff::Timestamp, StoreError> {
    jiff::Timestamp::from_microsecond(microseconds)
        .map_err(|error| StoreError::Corrupt { what: "time", reason: error.to_string() })
}
