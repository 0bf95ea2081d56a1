//! Reading products, and making new ones. Changing one begins in `locks`.

use holdfast_domain::{Description, NewProduct, Product, ProductId};

use crate::{Store, StoreError, rows};

/// Which products of the list.
#[derive(Clone, Copy, Debug)]
pub struct ProductPage {
    /// Only those with a larger id: the last id of the page before.
    pub after: Option<ProductId>,
    /// Leave out that many, as the reference API does. Costs as much as reading them.
    pub skip: i64,
    /// At most that many.
    pub limit: i64,
}

impl Store {
    /// Puts a product into the shop.
    ///
    /// # Errors
    /// The database is not available. Must not be tried again blindly: it may have happened.
    pub async fn create_product(&self, new: &NewProduct) -> Result<Product, StoreError> {
        let row = sqlx::query(
            "INSERT INTO products (name, description, price_minor, stock) VALUES ($1, $2, $3, $4) \
             RETURNING id, name, description, price_minor, stock, version",
        )
        .bind(new.name.as_str())
        .bind(new.description.as_ref().map(Description::as_str))
        .bind(new.price.minor())
        .bind(new.stock.units())
        .fetch_one(&self.pool)
        .await?;
        rows::product(&row)
    }

    /// One product, if it is there and on sale. Takes no lock and waits for none.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn product(&self, id: ProductId) -> Result<Option<Product>, StoreError> {
        let row = sqlx::query(
            "SELECT id, name, description, price_minor, stock, version FROM products \
             WHERE id = $1 AND retired_at IS NULL",
        )
        .bind(id.0)
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(rows::product).transpose()
    }

    /// The products on sale, by ascending id.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn products(&self, page: &ProductPage) -> Result<Vec<Product>, StoreError> {
        sqlx::query(
            "SELECT id, name, description, price_minor, stock, version FROM products \
             WHERE id > $1 AND retired_at IS NULL ORDER BY id OFFSET $2 LIMIT $3",
        )
        .bind(page.after.map_or(0, |id| id.0))
        .bind(page.skip)
        .bind(page.limit)
        .fetch_all(&self.pool)
        .await?
        .iter()
        .map(rows::product)
        .collect()
    }
}
