//! From rows to the types of the domain. What the schema's constraints rule out is an error here,
//! not a panic: somebody may have changed the schema.

use holdfast_domain::{
    CustomerRef, Description, Money, Product, ProductId, ProductName, Stock, UnknownWord,
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

pub(crate) fn timestamp(microseconds: i64) -> Result<jiff::Timestamp, StoreError> {
    jiff::Timestamp::from_microsecond(microseconds)
        .map_err(|error| StoreError::Corrupt { what: "time", reason: error.to_string() })
}
