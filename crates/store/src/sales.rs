//! Flash sales: written down here, and enforced by whoever locks a product's row.
//!
//! What a product's sales say stands on its own row, as one JSON value. It is written under the row's
//! lock, in the transaction that writes the tables, so a batch that has the row locked knows it for
//! sure, without a question more.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use holdfast_domain::{
    CustomerLimit, CustomerRef, ProductId, Sale, SaleName, SaleWindow, Selling, Taken,
};
use jiff::Timestamp;
use serde::Deserialize;
use sqlx::{Row as _, postgres::PgRow};
use tokio::time::sleep;

use crate::{
    Batch, Store, StoreError,
    calls::{RefusedWrite, again},
    connections::Transaction,
    fulfilment::millis,
    locks::lock_rows,
    rows::{corrupt, timestamp},
};

/// The most sales that one product may be in, those that are over included.
pub const SALES_OF_PRODUCT_MAX: usize = 16;

/// The most sales that there may be, those that are over included.
pub const SALES_MAX: i64 = 1000;

/// Before the products of a sale are locked again, of which one stayed locked. The others are free meanwhile.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Why a sale was not written down.
#[derive(Debug, thiserror::Error)]
pub enum PutSaleError {
    /// Some of its products do not exist or are no longer sold.
    #[error("unknown products")]
    UnknownProducts(Vec<ProductId>),
    /// The product is in [`SALES_OF_PRODUCT_MAX`] sales already.
    #[error("product {0} is in {SALES_OF_PRODUCT_MAX} sales already")]
    TooManySales(ProductId),
    /// There are [`SALES_MAX`] sales already.
    #[error("there are {SALES_MAX} sales already")]
    Full,
    /// It has begun, and its start or its products would change.
    #[error("the start and the products of a sale that has begun cannot be changed")]
    Begun,
    /// The database is not available, or refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for PutSaleError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl RefusedWrite for PutSaleError {
    fn is_read_only(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_read_only())
    }
}

macro_rules! sale_columns {
    () => {
        "sales.name, ARRAY(SELECT product_id FROM sale_products WHERE sale_id = sales.id) AS products, \
         (extract(epoch FROM starts_at) * 1000000)::bigint AS starts_us, \
         (extract(epoch FROM ends_at) * 1000000)::bigint AS ends_us, per_customer, held_back"
    };
}

impl Store {
    /// The database's clock, by which sales open and close.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn clock(&self) -> Result<Timestamp, StoreError> {
        let micros = sqlx::query_scalar("SELECT (extract(epoch FROM now()) * 1000000)::bigint")
            .fetch_one(self.reads())
            .await?;
        timestamp(micros)
    }

    /// Writes a sale down, or changes the one of its name. The same again changes nothing. From the answer on,
    /// no batch sells by what was there before.
    ///
    /// # Errors
    /// See [`PutSaleError`]. After one of the database it is not known whether it was written.
    pub async fn put_sale(&self, sale: &Sale) -> Result<(), PutSaleError> {
        let begun = Instant::now();
        loop {
            match again(|| self.try_put_sale(sale)).await {
                Err(PutSaleError::Store(StoreError::LockTimeout(_))) if self.may_retry(begun) => {
                    sleep(RETRY_PAUSE).await;
                }
                result => return result,
            }
        }
    }

    /// How long a row is waited for with others locked.
    fn hand_over(&self) -> Duration {
        self.hand_over.wait(self.settings.lock_timeout)
    }

    fn may_retry(&self, begun: Instant) -> bool {
        begun.elapsed() < self.settings.lock_timeout
    }

    async fn try_put_sale(&self, sale: &Sale) -> Result<(), PutSaleError> {
        let mut transaction = self.begin_change().await?;
        let row = sqlx::query(concat!(
            "SELECT id, starts_at <= now() AS begun, ",
            sale_columns!(),
            " FROM sales WHERE name = $1 FOR UPDATE"
        ))
        .bind(sale.name.as_str())
        .fetch_optional(&mut transaction)
        .await?;
        let before = row.as_ref().map(read).transpose()?;
        if before.as_ref() == Some(sale) {
            return Ok(());
        }
        let begun = row.as_ref().is_some_and(|row| row.try_get("begun").unwrap_or(false));
        if let Some(before) = &before
            && begun
            && (before.starts_at, &before.products) != (sale.starts_at, &sale.products)
        {
            return Err(PutSaleError::Begun);
        }
        let mut concerned = sale.products.clone();
        concerned.extend(before.iter().flat_map(|before| &before.products));
        let locked = lock_rows(&mut transaction, &concerned, self.hand_over()).await?;
        let unknown: Vec<_> =
            sale.products.iter().filter(|id| locked.get(id) != Some(&true)).copied().collect();
        // What is in it already may have been retired since.
        let unknown: Vec<_> = match &before {
            Some(before) => {
                unknown.into_iter().filter(|id| !before.products.contains(id)).collect()
            }
            None => unknown,
        };
        if !unknown.is_empty() {
            return Err(PutSaleError::UnknownProducts(unknown));
        }
        let id: Option<i64> = sqlx::query_scalar(
            "INSERT INTO sales (name, starts_at, ends_at, per_customer, held_back, after_order) \
             SELECT $1, 'epoch'::timestamptz + $2 * interval '1 us', \
                 'epoch'::timestamptz + $3 * interval '1 us', $4, $5, \
                 CASE WHEN 'epoch'::timestamptz + $2 * interval '1 us' > now() \
                     THEN (SELECT last_value FROM orders_id_seq) ELSE 0 END \
             WHERE EXISTS (SELECT FROM sales WHERE name = $1) \
                 OR (SELECT count(*) FROM sales) < $6 \
             ON CONFLICT (name) DO UPDATE SET starts_at = excluded.starts_at, \
                 ends_at = excluded.ends_at, per_customer = excluded.per_customer, \
                 held_back = excluded.held_back, \
                 after_order = least(sales.after_order, excluded.after_order) \
             RETURNING id",
        )
        .bind(sale.name.as_str())
        .bind(sale.starts_at.as_microsecond())
        .bind(sale.ends_at.as_microsecond())
        .bind(sale.per_customer.map(|units| i32::try_from(units).unwrap_or(i32::MAX)))
        .bind(sale.held_back)
        .bind(SALES_MAX)
        .fetch_optional(&mut transaction)
        .await?;
        let id = id.ok_or(PutSaleError::Full)?;
        sqlx::query(
            "WITH gone AS (DELETE FROM sale_products \
                 WHERE sale_id = $1 AND product_id <> ALL($2)) \
             INSERT INTO sale_products (sale_id, product_id, summed_to) \
             SELECT $1, id, version FROM products WHERE id = ANY($2) \
             ON CONFLICT DO NOTHING",
        )
        .bind(id)
        .bind(sale.products.iter().map(|id| id.0).collect::<Vec<_>>())
        .execute(&mut transaction)
        .await?;
        if let Some(id) = tell_products(&mut transaction, &concerned).await? {
            return Err(PutSaleError::TooManySales(id));
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Takes a sale away: its products are sold as if it had never been. Says whether it was there.
    ///
    /// # Errors
    /// The database is not available. It is not known then whether the sale is gone.
    pub async fn delete_sale(&self, name: &SaleName) -> Result<bool, StoreError> {
        let begun = Instant::now();
        loop {
            match again(|| self.try_delete_sale(name)).await {
                Err(StoreError::LockTimeout(_)) if self.may_retry(begun) => {
                    sleep(RETRY_PAUSE).await;
                }
                result => return result,
            }
        }
    }

    async fn try_delete_sale(&self, name: &SaleName) -> Result<bool, StoreError> {
        let mut transaction = self.begin_change().await?;
        let row = sqlx::query(concat!(
            "SELECT id, ",
            sale_columns!(),
            " FROM sales WHERE name = $1 FOR UPDATE"
        ))
        .bind(name.as_str())
        .fetch_optional(&mut transaction)
        .await?;
        let Some(row) = row else { return Ok(false) };
        let sale = read(&row)?;
        lock_rows(&mut transaction, &sale.products, self.hand_over()).await?;
        sqlx::query("DELETE FROM sales WHERE id = $1")
            .bind(row.try_get::<i64, _>("id")?)
            .execute(&mut transaction)
            .await?;
        tell_products(&mut transaction, &sale.products).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// One sale.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn sale(&self, name: &SaleName) -> Result<Option<Sale>, StoreError> {
        let row = sqlx::query(concat!("SELECT ", sale_columns!(), " FROM sales WHERE name = $1"))
            .bind(name.as_str())
            .fetch_optional(self.reads())
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Products of sales that are open, or will be within `ahead`, at most `limit`.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn products_of_sales_within(
        &self,
        ahead: Duration,
        limit: u32,
    ) -> Result<Vec<ProductId>, StoreError> {
        let found: Vec<i64> = sqlx::query_scalar(
            "SELECT DISTINCT product_id FROM sales JOIN sale_products ON sale_id = id \
             WHERE ends_at > now() AND starts_at < now() + $1 * interval '1 ms' \
             ORDER BY product_id LIMIT $2",
        )
        .bind(millis(ahead))
        .bind(i64::from(limit))
        .fetch_all(self.reads())
        .await?;
        Ok(found.into_iter().map(ProductId).collect())
    }

    /// The sales that end last, the last one first, at most `limit`.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn sales(&self, limit: u32) -> Result<Vec<Sale>, StoreError> {
        let rows = sqlx::query(concat!(
            "SELECT ",
            sale_columns!(),
            " FROM sales ORDER BY ends_at DESC, id DESC LIMIT $1"
        ))
        .bind(i64::from(limit))
        .fetch_all(self.reads())
        .await?;
        rows.iter().map(read).collect()
    }
}

impl Batch {
    /// Puts on the shelf what these customers have of the locked products with a limit: what they have
    /// ordered since the sale began and not cancelled, and what is held for them, whenever that was. Nobody changes
    /// that while the products are locked.
    ///
    /// # Errors
    /// The database refuses or is not available; the transaction is over then.
    pub async fn count_taken(
        &mut self,
        limits: &[(ProductId, CustomerLimit)],
        customers: &BTreeSet<CustomerRef>,
    ) -> Result<(), StoreError> {
        let query = sqlx::query(
            "SELECT limited.id, customer.ref, coalesce(( \
                 SELECT sum(quantity) FROM orders WHERE customer_ref = customer.ref \
                     AND orders.id > limited.after_order AND product_id = limited.id \
                     AND created_at >= limited.since AND status <> 'cancelled'), 0)::bigint \
               + coalesce(( \
                 SELECT sum(line.quantity) FROM orders JOIN order_lines AS line ON order_id = orders.id \
                 WHERE customer_ref = customer.ref AND orders.id > limited.after_order \
                     AND line.product_id = limited.id AND line_count > 1 \
                     AND created_at >= limited.since AND status <> 'cancelled'), 0)::bigint AS ordered, \
               coalesce(( \
                 SELECT sum(quantity) FROM holds WHERE customer_ref = customer.ref \
                     AND product_id = limited.id AND status = 'active' AND expires_at > now()), 0)::bigint AS held \
             FROM (SELECT id, after_order, 'epoch'::timestamptz + since_us * interval '1 us' AS since \
                   FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) \
                       AS given (id, after_order, since_us)) AS limited, \
                 unnest($4::text[]) AS customer (ref)",
        )
        .bind(limits.iter().map(|(id, _)| id.0).collect::<Vec<_>>())
        .bind(limits.iter().map(|(_, limit)| limit.after_order).collect::<Vec<_>>())
        .bind(limits.iter().map(|(_, limit)| limit.since.as_microsecond()).collect::<Vec<_>>())
        .bind(customers.iter().map(CustomerRef::as_str).collect::<Vec<_>>());
        let rows = query.fetch_all(&mut self.transaction).await?;
        for row in rows {
            let customer = CustomerRef::kept(row.try_get("ref")?);
            let taken = Taken { ordered: row.try_get("ordered")?, held: row.try_get("held")? };
            self.shelf.put_taken(ProductId(row.try_get("id")?), customer, taken);
        }
        Ok(())
    }
}

/// Writes on the locked rows of these products which sales they are in. Gives back one that is in too
/// many.
async fn tell_products(
    transaction: &mut Transaction,
    products: &BTreeSet<ProductId>,
) -> Result<Option<ProductId>, StoreError> {
    let rows = sqlx::query(
        "UPDATE products SET sales = ( \
             SELECT jsonb_agg(jsonb_build_object( \
                 'from', (extract(epoch FROM starts_at) * 1000000)::bigint, \
                 'to', (extract(epoch FROM ends_at) * 1000000)::bigint, \
                 'limit', per_customer, 'held', held_back, 'after', after_order)) \
             FROM sales JOIN sale_products ON sale_id = sales.id WHERE product_id = products.id) \
         WHERE id = ANY($1) RETURNING id, coalesce(jsonb_array_length(sales), 0) AS sales",
    )
    .bind(products.iter().map(|id| id.0).collect::<Vec<_>>())
    .fetch_all(transaction)
    .await?;
    for row in rows {
        let sales: i32 = row.try_get("sales")?;
        if usize::try_from(sales).unwrap_or(usize::MAX) > SALES_OF_PRODUCT_MAX {
            return Ok(Some(ProductId(row.try_get("id")?)));
        }
    }
    Ok(None)
}

/// A sale on the row of its product.
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

fn read(row: &PgRow) -> Result<Sale, StoreError> {
    let products: Vec<i64> = row.try_get("products")?;
    let per_customer: Option<i32> = row.try_get("per_customer")?;
    Ok(Sale {
        name: SaleName::new(row.try_get("name")?).map_err(corrupt("sale's name"))?,
        products: products.into_iter().map(ProductId).collect(),
        starts_at: timestamp(row.try_get("starts_us")?)?,
        ends_at: timestamp(row.try_get("ends_us")?)?,
        per_customer: per_customer.and_then(|units| u32::try_from(units).ok()),
        held_back: row.try_get("held_back")?,
    })
}
