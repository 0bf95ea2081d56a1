//! Flash sales: stored here, and enforced by the batches that lock a product's row.
//!
//! The row of a product contains its sales as one JSON value, which is written under the lock of the row, in the
//! transaction that writes the tables. So a batch that has locked the row knows the sales without another query.

use std::{collections::BTreeSet, ops::Range, time::Duration};

use holdfast_domain::{ProductId, Sale, SaleName};
use jiff::Timestamp;

use crate::{
    archive::archived_orders,
    calls::again,
    connections::Transaction,
    error::{ChangeError, StoreError},
    locked_rows::{ChangedRow, Tried, WhenLocked},
    locks::lock_rows,
    sql::checked,
    store::Store,
    time::{Time, interval},
};

/// The most sales of one product, including those that are over.
pub const SALES_OF_PRODUCT_MAX: usize = 16;

/// The most sales, including those that are over.
pub const SALES_MAX: i64 = 1000;

/// Why a sale was not stored.
#[derive(Debug, thiserror::Error)]
pub enum PutSaleError {
    /// Some of its products do not exist or are no longer sold.
    #[error("unknown products")]
    UnknownProducts(Vec<ProductId>),
    /// The product is in [`SALES_OF_PRODUCT_MAX`] sales already.
    #[error("product {0} is already in {SALES_OF_PRODUCT_MAX} sales")]
    TooManySales(ProductId),
    /// There are [`SALES_MAX`] sales already.
    #[error("there are already {SALES_MAX} sales")]
    Full,
    /// The sale has begun, and the change concerns its start or its products.
    #[error("the start and the products of a sale that has begun cannot be changed")]
    Begun,
    /// Orders of these products that count for its limit may have been archived before the sale was recorded.
    #[error(
        "orders since the start of the sale have been archived, so its limit cannot count them"
    )]
    Archived(Vec<ProductId>),
    /// The database is not available, or refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for PutSaleError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl ChangeError for PutSaleError {
    fn is_read_only(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_read_only())
    }

    fn is_lock_timeout(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_lock_timeout())
    }
}

/// The columns of a [`SaleRow`], and the table that they are from.
macro_rules! sales {
    ($($to:tt)+) => { $crate::sql::part!([r#"
        SELECT id, name, starts_at AS "starts_at: Time", ends_at AS "ends_at: Time",
            created_at AS "created_at: Time", per_customer, held_back,
            starts_at <= now() AS "begun!", ends_at <= now() AS "over!",
            ARRAY(SELECT product_id FROM sale_products WHERE sale_id = sales.id) AS "products!"
        FROM sales
    "#] $($to)+) };
}

/// A row of `sales`, with the products of the sale.
struct SaleRow {
    id: i64,
    name: String,
    starts_at: Time,
    ends_at: Time,
    created_at: Time,
    per_customer: Option<i32>,
    held_back: bool,
    begun: bool,
    over: bool,
    products: Vec<i64>,
}

impl TryFrom<SaleRow> for Sale {
    type Error = StoreError;

    fn try_from(row: SaleRow) -> Result<Self, StoreError> {
        Ok(Self {
            name: SaleName::kept(row.name),
            products: row.products.into_iter().map(ProductId).collect(),
            starts_at: row.starts_at.to_jiff(),
            ends_at: row.ends_at.to_jiff(),
            per_customer: row.per_customer.and_then(|units| u32::try_from(units).ok()),
            held_back: row.held_back,
        })
    }
}

impl Store {
    /// The database's clock, by which sales open and close.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn clock(&self) -> Result<Timestamp, StoreError> {
        let now = sqlx::query_scalar!(r#"SELECT now() AS "now!: Time""#);
        Ok(now.fetch_one(self.reads()).await?.to_jiff())
    }

    /// Stores a sale, or changes the one with the same name. Storing the same sale again changes nothing. After this
    /// returns, no batch uses the previous state.
    ///
    /// # Errors
    /// See [`PutSaleError`]. After a database error, it is unknown whether the sale was written.
    pub async fn put_sale(&self, sale: &Sale) -> Result<(), PutSaleError> {
        let turn = self.turn(ChangedRow::Sale(sale.name.as_str().to_owned())).await?;
        let mut tries = turn.tries().await?;
        loop {
            let waits = tries.waits();
            let attempt = again(|| self.try_put_sale(sale, waits)).await;
            if let Some(()) = tries.again(attempt.map(Tried::Done)).await? {
                return Ok(());
            }
        }
    }

    async fn try_put_sale(&self, sale: &Sale, waits: WhenLocked) -> Result<(), PutSaleError> {
        let mut transaction = self.begin_change(self.wait_in_database(waits)).await?;
        let row = lock_sale(&mut transaction, &sale.name).await?;
        let begun = row.as_ref().is_some_and(|row| row.begun);
        let uncounted = uncounted(row.as_ref(), sale);
        let before = row.map(Sale::try_from).transpose()?;
        if before.as_ref() == Some(sale) {
            transaction.rollback().await?;
            return Ok(self.replicated().await?);
        }
        if let Some(before) = &before
            && begun
            && (before.starts_at, &before.products) != (sale.starts_at, &sale.products)
        {
            return Err(PutSaleError::Begun);
        }
        let ids: Vec<_> = sale.products.iter().map(|id| id.0).collect();
        if let Some(archived) = uncounted {
            let missing = archived_orders(&mut transaction, &ids, sale.starts_at, archived).await?;
            if !missing.is_empty() {
                return Err(PutSaleError::Archived(missing));
            }
        }
        let mut concerned = sale.products.clone();
        concerned.extend(before.iter().flat_map(|before| &before.products));
        let locked = lock_rows(&mut transaction, &concerned).await?;
        let unknown: Vec<_> =
            sale.products.iter().filter(|id| locked.get(id) != Some(&true)).copied().collect();
        // Products that are already in the sale may have been retired since then.
        let unknown: Vec<_> = match &before {
            Some(before) => {
                unknown.into_iter().filter(|id| !before.products.contains(id)).collect()
            }
            None => unknown,
        };
        if !unknown.is_empty() {
            return Err(PutSaleError::UnknownProducts(unknown));
        }
        let id = sqlx::query_scalar!(
            r#"
            INSERT INTO sales (name, starts_at, ends_at, per_customer, held_back, after_order)
            SELECT $1, $2, $3, $4, $5,
                CASE WHEN $2 > now()
                    -- Before the first order, the sequence has its id.
                    THEN (SELECT last_value - (NOT is_called)::int FROM orders_id_seq)
                    ELSE 0
                END
            WHERE EXISTS (SELECT FROM sales WHERE name = $1) OR (SELECT count(*) FROM sales) < $6
            ON CONFLICT (name) DO UPDATE SET
                starts_at = excluded.starts_at,
                ends_at = excluded.ends_at,
                per_customer = excluded.per_customer,
                held_back = excluded.held_back,
                after_order = least(sales.after_order, excluded.after_order)
            RETURNING id
            "#,
            sale.name.as_str(),
            Time::from(sale.starts_at) as Time,
            Time::from(sale.ends_at) as Time,
            sale.per_customer.map(|units| i32::try_from(units).unwrap_or(i32::MAX)),
            sale.held_back,
            SALES_MAX,
        )
        .fetch_optional(&mut transaction)
        .await?
        .ok_or(PutSaleError::Full)?;
        sqlx::query!(
            r#"
            WITH gone AS (
                DELETE FROM sale_products
                WHERE sale_id = $1 AND product_id <> ALL ($2)
            )
            INSERT INTO sale_products (sale_id, product_id, summed_to)
            SELECT $1, id, version
            FROM products
            WHERE id = ANY ($2)
            ON CONFLICT DO NOTHING
            "#,
            id,
            &ids,
        )
        .execute(&mut transaction)
        .await?;
        if let Some(id) = tell_products(&mut transaction, &concerned).await? {
            return Err(PutSaleError::TooManySales(id));
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Deletes a sale: its products are then sold as if it had never existed. Returns whether it existed.
    ///
    /// # Errors
    /// The database is not available. It is then unknown whether the sale was deleted.
    pub async fn delete_sale(&self, name: &SaleName) -> Result<bool, StoreError> {
        let turn = self.turn(ChangedRow::Sale(name.as_str().to_owned())).await?;
        let mut tries = turn.tries().await?;
        loop {
            let waits = tries.waits();
            let attempt = again(|| self.try_delete_sale(name, waits)).await;
            if let Some(was_there) = tries.again(attempt.map(Tried::Done)).await? {
                return Ok(was_there);
            }
        }
    }

    async fn try_delete_sale(
        &self,
        name: &SaleName,
        waits: WhenLocked,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin_change(self.wait_in_database(waits)).await?;
        let Some(row) = lock_sale(&mut transaction, name).await? else { return Ok(false) };
        let id = row.id;
        let sale = Sale::try_from(row)?;
        lock_rows(&mut transaction, &sale.products).await?;
        sqlx::query!("DELETE FROM sales WHERE id = $1", id).execute(&mut transaction).await?;
        tell_products(&mut transaction, &sale.products).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// One sale.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn sale(&self, name: &SaleName) -> Result<Option<Sale>, StoreError> {
        let row = checked!(SaleRow, [{sales} "WHERE name = $1"], name.as_str())
            .fetch_optional(self.reads())
            .await?;
        row.map(Sale::try_from).transpose()
    }

    /// Products of sales that are open or will open within `ahead`, at most `limit`.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn products_of_sales_within(
        &self,
        ahead: Duration,
        limit: u32,
    ) -> Result<Vec<ProductId>, StoreError> {
        let found = sqlx::query_scalar!(
            r#"
            SELECT DISTINCT product_id
            FROM sales JOIN sale_products ON sale_id = id
            WHERE ends_at > now() AND starts_at < now() + $1::interval
            ORDER BY product_id
            LIMIT $2
            "#,
            interval(ahead),
            i64::from(limit),
        )
        .fetch_all(self.reads())
        .await?;
        Ok(found.into_iter().map(ProductId).collect())
    }

    /// The sales with the latest ends, in descending order, at most `limit`.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn sales(&self, limit: u32) -> Result<Vec<Sale>, StoreError> {
        let rows = checked!(
            SaleRow,
            [{sales} "ORDER BY ends_at DESC, id DESC LIMIT $1"],
            i64::from(limit),
        )
        .fetch_all(self.reads())
        .await?;
        rows.into_iter().map(Sale::try_from).collect()
    }
}

/// The period in which orders that count for this sale may have been archived; `None` if none can be missing. Orders
/// that an open sale counts are not archived.
fn uncounted(before: Option<&SaleRow>, sale: &Sale) -> Option<Range<Timestamp>> {
    let gets_limit = sale.per_customer.is_some();
    match before {
        Some(row) if row.over => {
            (sale.ends_at > row.ends_at.to_jiff()).then(|| row.ends_at.to_jiff()..Timestamp::MAX)
        }
        Some(row) if row.begun => (gets_limit && row.per_customer.is_none())
            .then(|| Timestamp::UNIX_EPOCH..row.created_at.to_jiff()),
        _ => gets_limit.then_some(Timestamp::UNIX_EPOCH..Timestamp::MAX),
    }
}

async fn lock_sale(
    transaction: &mut Transaction,
    name: &SaleName,
) -> Result<Option<SaleRow>, sqlx::Error> {
    checked!(SaleRow, [{sales} "WHERE name = $1 FOR UPDATE"], name.as_str())
        .fetch_optional(transaction)
        .await
}

/// Writes the sales of these products into their locked rows. Returns a product that is in too many sales.
async fn tell_products(
    transaction: &mut Transaction,
    products: &BTreeSet<ProductId>,
) -> Result<Option<ProductId>, StoreError> {
    let products: Vec<_> = products.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"
        UPDATE products SET sales = (
            SELECT jsonb_agg(jsonb_build_object(
                'from', (extract(epoch FROM starts_at) * 1000000)::bigint,
                'to', (extract(epoch FROM ends_at) * 1000000)::bigint,
                'limit', per_customer,
                'held', held_back,
                'after', after_order
            ))
            FROM sales JOIN sale_products ON sale_id = sales.id
            WHERE product_id = products.id
        )
        WHERE id = ANY ($1)
        RETURNING id, coalesce(jsonb_array_length(sales), 0) AS "sales!"
        "#,
        &products,
    )
    .fetch_all(transaction)
    .await?;
    let too_many = |sales| usize::try_from(sales).unwrap_or(usize::MAX) > SALES_OF_PRODUCT_MAX;
    Ok(rows.into_iter().find(|row| too_many(row.sales)).map(|row| ProductId(row.id)))
}
