//! Reading products and creating them. Changes are in `locked_product`.

use holdfast_domain::{
    Money, Product, ProductDescription, ProductDraft, ProductId, ProductName, Stock,
};
use sqlx::{Postgres, QueryBuilder};

use crate::{
    error::StoreError,
    folded::folded,
    page::{LOOKED_AT_MAX, PAGE_BYTES_MAX, Page, bytes_before},
    reads::Reads,
    rows::corrupt,
    sql::sql,
    store::Store,
};

/// A page of the list of products.
#[derive(Clone, Debug, Default)]
pub struct ProductPage {
    /// Where the previous page ended.
    pub after: Option<ProductPlace>,
    /// The number of products to skip, as in the reference API. Skipping costs as much as reading.
    pub skip: i64,
    /// Only products with a name that begins with this text, ignoring case.
    pub name: Option<ProductName>,
    /// Only products that have units left (true) or have none (false).
    pub in_stock: Option<bool>,
    /// The most entries.
    pub limit: i64,
}

/// The position of a product in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProductPlace {
    /// Its name: folded, not folded, or in lower case as an earlier release wrote it. The list is sorted by the
    /// folded form that the database computes. Empty if the list is sorted by ids.
    pub name: String,
    pub id: ProductId,
}

/// A row of `products`.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct ProductRow {
    pub id: i64,
    pub name: String,
    pub description: Option<String>,
    pub price_minor: i64,
    pub stock: i64,
    pub version: i64,
}

impl TryFrom<ProductRow> for Product {
    type Error = StoreError;

    fn try_from(row: ProductRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: ProductId(row.id),
            name: ProductName::kept(row.name),
            description: row.description.map(ProductDescription::kept),
            price: Money::from_minor(row.price_minor).map_err(corrupt("price"))?,
            stock: Stock::new(row.stock).map_err(corrupt("stock"))?,
            version: row.version,
        })
    }
}

/// A row of a page of products.
#[derive(sqlx::FromRow)]
struct ListedProduct {
    #[sqlx(flatten)]
    product: ProductRow,
    folded_name: String,
    found: i64,
}

impl Store {
    /// Creates a product.
    ///
    /// # Errors
    /// The database is not available. The product may have been created, so do not try again without checking.
    pub async fn create_product(&self, new: &ProductDraft) -> Result<Product, StoreError> {
        let row = sqlx::query_as!(
            ProductRow,
            r#"
            WITH made AS (
                INSERT INTO products (name, description, price_minor, stock)
                VALUES ($1, $2, $3, $4)
                RETURNING id, name, description, price_minor, stock, version, held
            ), entry AS (
                INSERT INTO stock_ledger
                    (product_id, version, reason, delta, stock_after, held_after)
                SELECT id, version, 'opening', stock, stock, held
                FROM made
            )
            SELECT id, name, description, price_minor, stock, version
            FROM made
            "#,
            new.name.as_str(),
            new.description.as_ref().map(ProductDescription::as_str),
            new.price.minor(),
            new.stock.units(),
        )
        .fetch_one(self.changes())
        .await?;
        row.try_into()
    }

    /// One product, if it exists and is on sale. Takes no lock and waits for none.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn product(&self, id: ProductId) -> Result<Option<Product>, StoreError> {
        let row = sqlx::query_as!(
            ProductRow,
            r#"
            SELECT id, name, description, price_minor, stock, version
            FROM products
            WHERE id = $1 AND retired_at IS NULL
            "#,
            id.0,
        )
        .fetch_optional(self.reads())
        .await?;
        row.map(Product::try_from).transpose()
    }

    /// The versions of these products, if they exist and are on sale, in no particular order. Takes no lock and
    /// waits for none.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn product_versions(&self, ids: &[i64]) -> Result<Vec<(i64, i64)>, StoreError> {
        let found = sqlx::query!(
            r#"
            SELECT id, version
            FROM products
            WHERE id = ANY ($1) AND retired_at IS NULL
            "#,
            ids,
        )
        .fetch_all(self.reads())
        .await?;
        Ok(found.into_iter().map(|row| (row.id, row.version)).collect())
    }

    /// A page of the products on sale: by name if the page has a prefix of a name, otherwise by ascending id.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn products(
        &self,
        page: &ProductPage,
    ) -> Result<Page<Product, ProductPlace>, StoreError> {
        self.read(|reads| page.read(reads)).await
    }
}

impl ProductPage {
    async fn read(&self, reads: Reads<'_>) -> Result<Page<Product, ProductPlace>, StoreError> {
        let limit = self.limit.saturating_add(1);
        let mut query = QueryBuilder::new(
            r"SELECT id, name, description, price_minor, stock, version, folded_name, found
            FROM (
                SELECT *, coalesce(sum(
                    512::bigint + 6 * octet_length(name)
                        + coalesce(octet_length(to_json(description)::text), 0)
                ) OVER (",
        );
        query.push(self.order()).push(sql!({bytes_before} "FROM (SELECT * FROM ("));
        let looked_at = if self.in_stock.is_some() { LOOKED_AT_MAX } else { limit };
        self.push_looked_at(&mut query, looked_at);
        query.push(") AS looked_at");
        // No index contains the stock, because otherwise sales could not be HOT updates.
        query.push(match self.in_stock {
            None => "",
            Some(true) => " WHERE stock > 0",
            Some(false) => " WHERE stock = 0",
        });
        query.push(self.order()).push(" LIMIT ").push_bind(limit);
        query.push(") AS fitting) AS measured WHERE bytes_before < ").push_bind(PAGE_BYTES_MAX);
        query.push(self.order());
        let rows: Vec<ListedProduct> = query.build_query_as().fetch_all(reads.clone()).await?;

        let total = rows.first().map_or(0, |row| row.found);
        let read = |row: ListedProduct| Ok((Product::try_from(row.product)?, row.folded_name));
        let place = |(product, folded): &(Product, String)| {
            place_of(product.id, product.name.as_str(), folded.clone())
        };
        let found = Page::read(rows, total, self.limit, read, place)?;
        let mut next = found.next;
        if next.is_none() && self.in_stock.is_some() {
            next = self.last_looked_at(reads).await?;
        }
        Ok(Page { items: found.items.into_iter().map(|(product, _)| product).collect(), next })
    }

    /// The last product that a page read, if there may be more after it.
    async fn last_looked_at(&self, reads: Reads<'_>) -> Result<Option<ProductPlace>, StoreError> {
        let mut query = QueryBuilder::new("SELECT id, name, folded_name FROM (");
        self.push_looked_at(&mut query, LOOKED_AT_MAX);
        query.push(") AS looked_at").push(self.order());
        query.push(" OFFSET ").push_bind(LOOKED_AT_MAX - 1).push(" LIMIT 1");
        let last: Option<(i64, String, String)> =
            query.build_query_as().fetch_optional(reads).await?;
        Ok(last.map(|(id, name, folded)| place_of(ProductId(id), &name, folded)))
    }

    fn order(&self) -> &'static str {
        match self.name {
            Some(_) => " ORDER BY folded_name USING ~<~, id",
            None => " ORDER BY id",
        }
    }

    /// The next `limit` products along one index.
    fn push_looked_at(&self, query: &mut QueryBuilder<Postgres>, limit: i64) {
        const BY_NAME: &str = concat!(
            "SELECT *, ",
            folded!("name"),
            " AS folded_name FROM products WHERE retired_at IS NULL AND ",
            folded!("name"),
        );
        let Some(name) = &self.name else {
            query.push(
                "SELECT *, '' AS folded_name FROM products WHERE retired_at IS NULL AND id > ",
            );
            query.push_bind(self.after.as_ref().map_or(0, |place| place.id.0));
            query.push(" ORDER BY id OFFSET ").push_bind(self.skip);
            query.push(" LIMIT ").push_bind(limit);
            return;
        };
        // The operators of `text_pattern_ops`, the class of the index, compare byte by byte, whatever the collation.
        // (`LIKE $1` would use no index in a generic plan.) The last code point of Unicode marks the end of the
        // prefix's range; it is a noncharacter, so no name contains it.
        if let Some(place) = &self.after {
            // Other products with the same name come first, then later names. Each part is a plain range of the
            // index, so a thousand products with one name cost nothing extra.
            query.push("SELECT * FROM ((").push(BY_NAME).push(" = ");
            push_folded(query, &place.name);
            query.push(" AND id > ").push_bind(place.id.0);
            query.push(" ORDER BY id LIMIT ").push_bind(limit);
            query.push(") UNION ALL (").push(BY_NAME).push(" ~>~ ");
            push_folded(query, &place.name);
        } else {
            query.push(BY_NAME).push(" ~>=~ ");
            push_folded(query, name.as_str());
        }
        query.push(concat!(" AND ", folded!("name"), " ~<~ ("));
        push_folded(query, name.as_str());
        query.push(concat!(
            " || chr(1114111)) ORDER BY ",
            folded!("name"),
            " USING ~<~, id LIMIT "
        ));
        query.push_bind(limit);
        if self.after.is_some() {
            query.push(")) AS either").push(self.order()).push(" LIMIT ").push_bind(limit);
        }
    }
}

fn push_folded(query: &mut QueryBuilder<Postgres>, name: &str) {
    query.push(folded!(begin)).push_bind(name.to_owned()).push(folded!(end));
}

/// The position of a product. Some names become longer when they are folded; the shorter form is enough for a
/// cursor.
fn place_of(id: ProductId, name: &str, folded: String) -> ProductPlace {
    let name = if folded.len() > name.len() { name.to_owned() } else { folded };
    ProductPlace { name, id }
}
