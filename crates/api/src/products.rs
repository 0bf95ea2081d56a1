//! A product as the API shows it, and as the cache keeps it.

use bytes::Bytes;
use holdfast_domain::{Product, ProductDescription, json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A product.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Product)]
pub struct ProductBody {
    /// The id, assigned by the server.
    #[schema(example = 3)]
    pub id: i64,
    /// The name.
    #[schema(example = "Espresso machine", max_length = 200)]
    pub name: String,
    /// The description; null if there is none.
    #[schema(example = "Two groups, brass", max_length = 10_000, required = true)]
    pub description: Option<String>,
    /// The price of one unit, with two decimals.
    #[schema(example = 499.90)]
    pub price: f64,
    /// The number of units for sale.
    #[schema(example = 25)]
    pub stock: i64,
    /// The version, which increases by one with each change, including orders.
    #[schema(example = 1)]
    pub version: i64,
}

impl From<Product> for ProductBody {
    fn from(product: Product) -> Self {
        Self {
            id: product.id.0,
            name: product.name.as_str().to_owned(),
            description: product
                .description
                .as_ref()
                .map(ProductDescription::as_str)
                .map(ToOwned::to_owned),
            price: product.price.to_major_f64(),
            stock: product.stock.units(),
            version: product.version,
        }
    }
}

/// A product in the read cache, with the encoded body of its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct CachedProduct(ProductBody);

impl From<Product> for CachedProduct {
    fn from(product: Product) -> Self {
        Self(product.into())
    }
}

impl holdfast_cache::Entry for CachedProduct {
    fn version(&self) -> i64 {
        self.0.version
    }

    fn stock(&self) -> i64 {
        self.0.stock
    }

    fn set_stock(&mut self, version: i64, stock: i64) {
        self.0.version = version;
        self.0.stock = stock;
    }

    fn encode(&self) -> Bytes {
        crate::encode::encode(&self.0)
    }

    fn decode(version: i64, body: &Bytes) -> Option<Self> {
        json::from_slice::<ProductBody>(body)
            .ok()
            .filter(|product| product.version == version)
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use holdfast_cache::Entry as _;
    use holdfast_domain::{Money, ProductId, ProductName, Stock};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A product from Redis must equal the one that was stored, to the cent.
        #[test]
        fn a_cached_product_is_read_back_unchanged(
            name in "[^\0]{1,40}x",
            minor in 0..=holdfast_domain::MAX_PRICE_MINOR,
            stock in 0i64..1_000_000_000,
            version in 1i64..1 << 52,
        ) {
            let cached = CachedProduct::from(Product {
                id: ProductId(7),
                name: ProductName::kept(name),
                description: None,
                price: Money::from_minor(minor).unwrap(),
                stock: Stock::new(stock).unwrap(),
                version,
            });
            prop_assert_eq!(CachedProduct::decode(version, &cached.encode()), Some(cached));
        }
    }

    #[test]
    fn a_body_of_another_version_or_form_is_a_miss() {
        let body = Bytes::from_static(
            br#"{"id":1,"name":"x","description":null,"price":1.0,"stock":1,"version":4}"#,
        );
        assert!(CachedProduct::decode(4, &body).is_some());
        assert!(CachedProduct::decode(5, &body).is_none());
        assert!(CachedProduct::decode(4, &Bytes::from_static(b"{}")).is_none());
    }
}
