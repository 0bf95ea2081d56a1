//! Admitting a batch of orders: one transaction, three round trips.
//!
//! 1. [`Store::lock_batch`]: `BEGIN` and the locks, in one message.
//! 2. [`Batch::write`]: the stock and all orders, in one statement.
//! 3. [`Writing::commit`].
//!
//! The caller decides between 1 and 2 who gets what.

use std::{collections::BTreeMap, io, time::Duration};

use holdfast_domain::{Available, Money, OrderId, ProductId, Quantity, Stock, StockChange};
use sqlx::Row;

use crate::{
    BatchToken, LockMode, Store, StoreError,
    connections::Lease,
    locks::lock_rows,
    rows::{corrupt, timestamp},
};

/// A transaction that holds the rows of a batch's products locked.
///
/// Dropping it rolls back, by closing the connection; [`Batch::release`] is the cheap way.
#[derive(Debug)]
pub struct Batch {
    connection: OwnTransaction,
    shelf: BTreeMap<ProductId, Available>,
    xid: String,
}

/// One order that is to be written.
#[derive(Clone, Debug)]
pub struct Placement<'a> {
    /// Of which product.
    pub product_id: ProductId,
    /// How many units.
    pub quantity: Quantity,
    /// What one unit costs.
    pub unit_price: Money,
    /// The W3C `traceparent` of its request, if that is sampled.
    pub trace_context: Option<&'a str>,
}

/// A batch that is written and not yet committed.
#[derive(Debug)]
pub struct Writing {
    connection: OwnTransaction,
    placed: Placed,
    token: BatchToken,
}

/// What a committed batch has put into the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The ids of the orders, in the order of the placements.
    pub ids: Vec<OrderId>,
    /// When they were accepted: one time for the whole batch.
    pub created_at: jiff::Timestamp,
}

/// A commit without a clear answer. Whether the batch is in the database must be looked up with
/// [`Store::outcome`].
#[derive(Debug, thiserror::Error)]
#[error("the commit was not answered")]
pub struct CommitError {
    /// What the batch has put into the database if it was committed.
    pub placed: Placed,
    /// By which it can be recognised.
    pub token: BatchToken,
    /// What the connection said.
    #[source]
    pub source: StoreError,
}

impl Store {
    /// Begins a batch: locks the rows of `ids` that exist, in the order of the ids. With
    /// [`LockMode::Skip`], rows that others hold are left out.
    ///
    /// A pooled connection that turns out to be dead is replaced once: nothing has been written
    /// yet.
    ///
    /// # Errors
    /// [`StoreError::LockTimeout`] with [`LockMode::Wait`]; the database is not available.
    pub async fn lock_batch(
        &self,
        ids: impl Iterator<Item = ProductId> + Clone,
        mode: LockMode,
    ) -> Result<Batch, StoreError> {
        match self.try_lock_batch(ids.clone(), mode).await {
            Err(StoreError::Unavailable(error)) => {
                tracing::debug!(%error, "an idle connection was dead");
                self.admission.forget_idle();
                self.try_lock_batch(ids, mode).await
            }
            result => result,
        }
    }

    async fn try_lock_batch(
        &self,
        ids: impl Iterator<Item = ProductId>,
        mode: LockMode,
    ) -> Result<Batch, StoreError> {
        let mut connection = OwnTransaction {
            lease: self.admission.acquire().await?,
            limit: self.settings.statement_timeout + Duration::from_secs(1),
        };
        match within(connection.limit, lock_rows(&mut connection.lease.connection, ids, mode)).await
        {
            Ok(rows) => Batch::new(connection, &rows),
            Err(error) => Err(connection.refused(error).await),
        }
    }
}

impl Batch {
    fn new(connection: OwnTransaction, rows: &[sqlx::postgres::PgRow]) -> Result<Self, StoreError> {
        let mut xid = String::new();
        let mut shelf = BTreeMap::new();
        for row in rows {
            if xid.is_empty() {
                xid = row.try_get("xid")?;
            }
            let available = Available {
                stock: Stock::new(row.try_get("stock")?).map_err(corrupt("stock"))?,
                price: Money::from_minor(row.try_get("price_minor")?).map_err(corrupt("price"))?,
                version: row.try_get("version")?,
                on_sale: row.try_get("on_sale")?,
            };
            shelf.insert(ProductId(row.try_get("id")?), available);
        }
        Ok(Self { connection, shelf, xid })
    }

    /// What the locked rows have to give.
    pub fn shelf(&self) -> &BTreeMap<ProductId, Available> {
        &self.shelf
    }

    /// Ends the transaction without a change.
    ///
    /// # Errors
    /// The connection is lost, which ends it as well.
    pub async fn release(self) -> Result<(), StoreError> {
        self.connection.rollback().await
    }

    /// Writes the changed stock and the orders. `nonce` is random and marks the batch's rows.
    ///
    /// # Errors
    /// The database refuses (nothing of the batch is written then) or is not available.
    pub async fn write(
        mut self,
        changes: &[StockChange],
        placements: &[Placement<'_>],
        nonce: i64,
    ) -> Result<Writing, StoreError> {
        let column = |value: fn(&StockChange) -> i64| changes.iter().map(value).collect::<Vec<_>>();
        let contexts =
            placements.iter().any(|placement| placement.trace_context.is_some()).then(|| {
                placements.iter().map(|placement| placement.trace_context).collect::<Vec<_>>()
            });
        let query = sqlx::query(
            // `placed` numbers the orders itself, so that their ids can be given back in the order
            // of the placements; RETURNING promises no order. One row of arrays costs less than a
            // row for each order.
            "WITH taken AS ( \
                 UPDATE products SET stock = stock - change.units, version = version + 1, \
                     updated_at = now() \
                 FROM unnest($1::bigint[], $2::bigint[]) AS change (product_id, units) \
                 WHERE id = change.product_id), \
             placed AS MATERIALIZED ( \
                 SELECT nextval('orders_id_seq') AS id, asked.* \
                 FROM unnest($3::bigint[], $4::int[], $5::bigint[], $6::text[]) \
                     WITH ORDINALITY AS asked (product_id, quantity, price, trace_context, place)), \
             written AS ( \
                 INSERT INTO orders (id, product_id, quantity, unit_price_minor, trace_context, \
                     batch_nonce) \
                 OVERRIDING SYSTEM VALUE \
                 SELECT id, product_id, quantity, price, trace_context, $7 FROM placed) \
             SELECT array_agg(id ORDER BY place) AS ids, \
                 (extract(epoch FROM now()) * 1000000)::bigint AS created_us FROM placed",
        )
        .bind(column(|change| change.product_id.0))
        .bind(column(|change| change.taken))
        .bind(placements.iter().map(|placement| placement.product_id.0).collect::<Vec<_>>())
        .bind(placements.iter().map(|placement| placement.quantity.units()).collect::<Vec<_>>())
        .bind(placements.iter().map(|placement| placement.unit_price.minor()).collect::<Vec<_>>())
        .bind(contexts)
        .bind(nonce);
        let limit = self.connection.limit;
        let row = within(limit, query.fetch_one(&mut self.connection.lease.connection)).await;
        let row = match row {
            Ok(row) => row,
            Err(error) => return Err(self.connection.refused(error).await),
        };
        let ids: Vec<i64> = row.try_get("ids")?;
        Ok(Writing {
            connection: self.connection,
            placed: Placed {
                ids: ids.into_iter().map(OrderId).collect(),
                created_at: timestamp(row.try_get("created_us")?)?,
            },
            token: BatchToken { xid: self.xid, nonce },
        })
    }
}

impl Writing {
    /// What the batch puts into the database, should it be committed.
    pub fn placed(&self) -> &Placed {
        &self.placed
    }

    /// By which the batch can be recognised, whatever becomes of its commit.
    pub fn token(&self) -> &BatchToken {
        &self.token
    }

    /// Commits. Once this is polled, cancelling it leaves the outcome open.
    ///
    /// # Errors
    /// The outcome is unknown, whatever the reason: see [`CommitError`].
    pub async fn commit(self) -> Result<Placed, Box<CommitError>> {
        match self.connection.end("COMMIT").await {
            Ok(()) => Ok(self.placed),
            Err(source) => {
                Err(Box::new(CommitError { placed: self.placed, token: self.token, source }))
            }
        }
    }
}

/// A connection with a transaction of ours open on it. Dropping it closes the connection, which
/// rolls back.
#[derive(Debug)]
struct OwnTransaction {
    lease: Lease,
    /// The longest wait for one answer.
    limit: Duration,
}

impl OwnTransaction {
    async fn rollback(self) -> Result<(), StoreError> {
        self.end("ROLLBACK").await
    }

    /// Ends a transaction in which a statement was refused, so that a lock timeout does not cost
    /// a connection, and says why it was refused.
    async fn refused(self, error: sqlx::Error) -> StoreError {
        let error = StoreError::from(error);
        if !error.is_unavailable() {
            // If this fails, the connection is closed: that ends the transaction as well.
            let _ = self.rollback().await;
        }
        error
    }

    async fn end(mut self, statement: &'static str) -> Result<(), StoreError> {
        let ending = sqlx::raw_sql(statement).execute(&mut self.lease.connection);
        within(self.limit, ending).await?;
        // Only now: after a failed or cancelled statement the connection is in doubt.
        self.lease.keep();
        Ok(())
    }
}

/// Waits for an answer no longer than the server itself should take: one that hangs does not
/// answer its own timeouts.
async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    tokio::time::timeout(limit, call)
        .await
        .unwrap_or_else(|_elapsed| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())))
}
