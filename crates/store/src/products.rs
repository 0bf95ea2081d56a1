//! Reading products, and making new ones. Changing one begins in `locks`.

use holdfast_domain::{Description, NewProduct, Product, ProductId, ProductName};
use sqlx::{Postgres, QueryBuilder, Row as _, postgres::PgRow};

use crate::{
    LOOKED_AT_MAX, PAGE_BYTES_MAX, Page, Store, StoreError,
    page::{bytes_before, within_bytes},
    rows,
};

/// Which products of the list.
#[derive(Clone, Debug, Default)]
pub struct ProductPage {
    /// Only those behind this one: where the page before ended.
    pub after: Option<ProductPlace>,
    /// Leave out that many, as the reference API does. Costs as much as reading them.
    pub skip: i64,
    /// Only those whose name begins like this, in whatever case.
    pub name: Option<ProductName>,
    /// Only those that have units left (true), or have none (false).
    pub in_stock: Option<bool>,
    /// At most that many.
    pub limit: i64,
}

/// Where a product stands in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProductPlace {
    /// Its name as the database puts it in lower case. What the list is sorted by if it is one of
    /// names, and empty otherwise.
    pub name: String,
    /// Its id.
    pub id: ProductId,
}

impl Store {
    /// Puts a product into the shop.
    ///
    /// # Errors
    /// The database is not available. Must not be tried again blindly: it may have happened.
    pub async fn create_product(&self, new: &NewProduct) -> Result<Product, StoreError> {
        let row = sqlx::query(
            "WITH made AS ( \
                 INSERT INTO products (name, description, price_minor, stock) \
                 VALUES ($1, $2, $3, $4) \
                 RETURNING id, name, description, price_minor, stock, version, held), \
             entry AS ( \
                 INSERT INTO stock_ledger (product_id, version, reason, delta, stock_after, \
                     held_after) \
                 SELECT id, version, 'opening', stock, stock, held FROM made) \
             TABLE made",
        )
        .bind(new.name.as_str())
        .bind(new.description.as_ref().map(Description::as_str))
        .bind(new.price.minor())
        .bind(new.stock.units())
        .fetch_one(self.changes())
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
        .fetch_optional(self.reads())
        .await?;
        row.as_ref().map(rows::product).transpose()
    }

    /// The versions of these products, of those that are there and on sale, in no order. Takes no lock and waits for
    /// none.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn product_versions(&self, ids: &[i64]) -> Result<Vec<(i64, i64)>, StoreError> {
        let found = sqlx::query_as(
            "SELECT id, version FROM products WHERE id = ANY ($1) AND retired_at IS NULL",
        )
        .bind(ids)
        .fetch_all(self.reads())
        .await?;
        Ok(found)
    }

    /// A page of the products on sale: by name if there is a beginning of one to look for, else
    /// by ascending id.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn products(
        &self,
        page: &ProductPage,
    ) -> Result<Page<Product, ProductPlace>, StoreError> {
        let limit = page.limit.saturating_add(1);
        let mut query = QueryBuilder::new(
            "SELECT id, name, description, price_minor, stock, version, low_name, found \
             FROM (SELECT *, ",
        );
        query.push(bytes_before!(
            "(512::bigint + 6 * octet_length(name) \
                 + coalesce(octet_length(to_json(description)::text), 0))"
        ));
        query.push(page.order()).push(within_bytes!("(SELECT * FROM ("));
        let looked_at = if page.in_stock.is_some() { LOOKED_AT_MAX } else { limit };
        page.push_looked_at(&mut query, looked_at);
        query.push(") AS looked_at");
        // No index has the stock: with one, no sale could be a HOT update.
        query.push(match page.in_stock {
            None => "",
            Some(true) => " WHERE stock > 0",
            Some(false) => " WHERE stock = 0",
        });
        query.push(page.order()).push(" LIMIT ").push_bind(limit);
        query.push(") AS fitting) AS measured WHERE bytes_before < ").push_bind(PAGE_BYTES_MAX);
        query.push(page.order());
        let rows = query.build().fetch_all(self.reads()).await?;

        let read = |row: &PgRow| Ok((rows::product(row)?, row.try_get("low_name")?));
        let place = |(product, name): &(Product, String)| ProductPlace {
            name: name.clone(),
            id: product.id,
        };
        let found = Page::read(&rows, page.limit, read, place)?;
        let mut next = found.next;
        if next.is_none() && page.in_stock.is_some() {
            next = self.last_product_looked_at(page).await?;
        }
        Ok(Page { items: found.items.into_iter().map(|(product, _)| product).collect(), next })
    }

    /// The last product that a page looked at, if there may be more behind it.
    async fn last_product_looked_at(
        &self,
        page: &ProductPage,
    ) -> Result<Option<ProductPlace>, StoreError> {
        let mut query = QueryBuilder::new("SELECT id, low_name FROM (");
        page.push_looked_at(&mut query, LOOKED_AT_MAX);
        query.push(") AS looked_at").push(page.order());
        query.push(" OFFSET ").push_bind(LOOKED_AT_MAX - 1).push(" LIMIT 1");
        let row = query.build().fetch_optional(self.reads()).await?;
        row.map(|row| {
            let id = ProductId(row.try_get("id")?);
            Ok(ProductPlace { name: row.try_get("low_name")?, id })
        })
        .transpose()
    }
}

impl ProductPage {
    fn order(&self) -> &'static str {
        match self.name {
            Some(_) => " ORDER BY low_name USING ~<~, id",
            None => " ORDER BY id",
        }
    }

    /// The next `limit` products along one index.
    fn push_looked_at(&self, query: &mut QueryBuilder<Postgres>, limit: i64) {
        const BY_NAME: &str = "SELECT *, lower(name) AS low_name FROM products \
            WHERE retired_at IS NULL AND ";
        let Some(name) = &self.name else {
            query.push("SELECT *, '' AS low_name FROM products WHERE retired_at IS NULL AND id > ");
            query.push_bind(self.after.as_ref().map_or(0, |place| place.id.0));
            query.push(" ORDER BY id OFFSET ").push_bind(self.skip);
            query.push(" LIMIT ").push_bind(limit);
            return;
        };
        // The operators of `text_pattern_ops`, the class of the index, compare byte by byte, whatever
        // the collation. (`LIKE $1` would use no index in a plan for any parameter.) The last of
        // all characters stands for the end of the prefix's range; it is in no name, since it
        // means nothing.
        if let Some(place) = &self.after {
            // Others of the same name first, then the names behind it: each part is a plain range
            // of the index, and a thousand products of one name cost nothing.
            query.push("SELECT * FROM ((").push(BY_NAME).push("lower(name) = ");
            query.push_bind(place.name.clone());
            query.push(" AND id > ").push_bind(place.id.0);
            query.push(" ORDER BY id LIMIT ").push_bind(limit);
            query.push(") UNION ALL (").push(BY_NAME).push("lower(name) ~>~ ");
            query.push_bind(place.name.clone());
        } else {
            query.push(BY_NAME).push("lower(name) ~>=~ lower(");
            query.push_bind(name.as_str().to_owned()).push(")");
        }
        query.push(" AND lower(name) ~<~ (lower(").push_bind(name.as_str().to_owned());
        query.push(") || chr(1114111)) ORDER BY lower(name) USING ~<~, id LIMIT ").push_bind(limit);
        if self.after.is_some() {
            query.push(")) AS either").push(self.order()).push(" LIMIT ").push_bind(limit);
        }
    }
}
