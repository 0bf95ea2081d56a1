//! Admitting a batch: one transaction, three round trips.
//!
//! 1. [`Store::lock_batch`]: `BEGIN`, the keys and the locks, in one message.
//! 2. [`Batch::write`]: the stock, the ledger, and all orders and holds, in one statement.
//! 3. [`Writing::commit`].
//!
//! The caller decides between 1 and 2 who gets what. Only a product that runs short while some of
//! its units are in holds costs one more: [`Batch::expired_holds`].

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use holdfast_domain::{HeldUnits, HoldId, OrderId, ProductId, Shelf, StockChange};
use jiff::Timestamp;
use sqlx::{Row as _, postgres::PgRow};

use crate::{
    BatchToken, IdempotencyKey, KeyedResult, LockMode, Store, StoreError, Wanted,
    connections::Transaction,
    hand_over::HandOver,
    locks::{Found, held_units, lock, look_up},
    places::{Place, Places},
    rows::timestamp,
};

mod write;

pub use write::{Cancelled, Ended, NewHold, NewOrder, Records};

/// The most expired holds that one batch gives back.
const EXPIRED_MAX: i64 = 1000;

/// A transaction that holds the rows of a batch's products locked.
///
/// Dropping it rolls back in the background.
#[derive(Debug)]
pub struct Batch {
    pub(crate) transaction: Transaction,
    xid: String,
    pub(crate) shelf: Shelf,
    keyed: BTreeMap<u128, KeyedResult>,
    /// Where the locked rows lie.
    rows: BTreeMap<ProductId, Place>,
    places: Arc<Places>,
    hold: Hold,
}

/// Tells how long the rows are locked, once.
#[derive(Debug)]
struct Hold {
    since: Instant,
    hand_over: HandOver,
}

impl Hold {
    fn over(self) {
        self.hand_over.held(self.since.elapsed());
    }
}

/// A batch that is written and not yet committed.
#[derive(Debug)]
pub struct Writing {
    transaction: Transaction,
    placed: Placed,
    token: BatchToken,
    /// Where the commit will have left the products' rows.
    rows: Vec<(ProductId, Place)>,
    places: Arc<Places>,
    hold: Hold,
}

/// What a committed batch has put into the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The ids of the new orders, in the order in which they were given.
    pub orders: Vec<OrderId>,
    /// The ids of the new holds, likewise.
    pub holds: Vec<HoldId>,
    /// When all of it happened: one time for the whole batch.
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

/// A hold whose time is over and whose units nobody has given back yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiredHold {
    /// Which one.
    pub id: HoldId,
    /// Of which product.
    pub product_id: ProductId,
    /// When its time was over.
    pub expired_at: Timestamp,
}

impl Store {
    /// Begins a batch: looks up the keys and locks the rows that exist, in the order of the ids.
    /// Unless `mode` waits for them, rows that others hold are left out: [`Store::seen`] tells them from
    /// those that do not exist.
    ///
    /// A pooled connection that turns out to be dead is replaced once: nothing has been written
    /// yet.
    ///
    /// # Errors
    /// [`StoreError::LockTimeout`] if `mode` waits, or somebody has locked a whole table; the database is not
    /// available.
    pub async fn lock_batch(
        &self,
        wanted: &Wanted<'_>,
        mode: LockMode,
    ) -> Result<Batch, StoreError> {
        match self.try_lock_batch(wanted, mode).await {
            Err(StoreError::Unavailable(error)) => {
                tracing::debug!(%error, "a batch is begun once more");
                self.try_lock_batch(wanted, mode).await
            }
            result => result,
        }
    }

    /// Holds whose time is over and whose units nobody has given back yet, the oldest first: `limit` of those that
    /// are not older than `since` and not of `without`.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn expired_holds(
        &self,
        since: Option<Timestamp>,
        without: &[ProductId],
        limit: u32,
    ) -> Result<Vec<ExpiredHold>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, product_id, (extract(epoch FROM expires_at) * 1000000)::bigint AS expires_us \
             FROM holds WHERE status = 'active' AND expires_at <= now() \
                 AND expires_at >= 'epoch'::timestamptz + $1 * interval '1 us' \
                 AND product_id <> ALL ($2) \
             ORDER BY expires_at LIMIT $3",
        )
        .bind(since.map_or(0, Timestamp::as_microsecond))
        .bind(without.iter().map(|id| id.0).collect::<Vec<_>>())
        .bind(i64::from(limit))
        .fetch_all(self.reads())
        .await?;
        let hold = |row: &PgRow| {
            Ok(ExpiredHold {
                id: HoldId(row.try_get("id")?),
                product_id: ProductId(row.try_get("product_id")?),
                expired_at: timestamp(row.try_get("expires_us")?)?,
            })
        };
        rows.iter().map(hold).collect()
    }

    async fn try_lock_batch(
        &self,
        wanted: &Wanted<'_>,
        mode: LockMode,
    ) -> Result<Batch, StoreError> {
        let mut session = self.admission().await?;
        let wait = self.hand_over.wait(self.settings.lock_timeout);
        let found = lock(&mut session, wanted, mode, wait, &self.places).await?;
        let Found { xid, shelf, keyed, places: rows } = found;
        let transaction = Transaction::begun(session);
        let places = Arc::clone(&self.places);
        let hold = Hold { since: Instant::now(), hand_over: self.hand_over.clone() };
        Ok(Batch { transaction, xid, shelf, keyed, rows, places, hold })
    }
}

impl Batch {
    /// What the locked rows have to give.
    pub fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// What a key led to before this batch, if anything.
    pub fn keyed(&self, key: &IdempotencyKey) -> Option<&KeyedResult> {
        self.keyed.get(&key.id())
    }

    /// Looks up keys again, as things stand now. Those of requests for rows that this batch has locked
    /// cannot be used by others any more.
    ///
    /// # Errors
    /// The database refuses or is not available; the transaction is over then.
    pub async fn look_up(&mut self, keys: &[IdempotencyKey]) -> Result<(), StoreError> {
        self.keyed.extend(look_up(&mut self.transaction, keys).await?);
        Ok(())
    }

    /// The holds of these products whose time is over and whose units nobody has given back yet:
    /// the oldest, a bounded number of them, without those whose rows others have locked. The products must be
    /// locked by this batch.
    ///
    /// # Errors
    /// The database refuses or is not available; the transaction is over then.
    pub async fn expired_holds(
        &mut self,
        products: &[ProductId],
    ) -> Result<Vec<(HoldId, HeldUnits)>, StoreError> {
        let query = sqlx::query(
            "SELECT id, product_id, quantity, unit_price_minor, customer_ref, \
                 'expired' AS status, true AS kept FROM holds \
             WHERE status = 'active' AND expires_at <= now() AND product_id = ANY($1) \
             ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED",
        )
        .bind(products.iter().map(|id| id.0).collect::<Vec<_>>())
        .bind(EXPIRED_MAX);
        let rows = query.fetch_all(&mut self.transaction).await?;
        rows.iter().map(held_units).collect()
    }

    /// Ends the transaction without a change.
    ///
    /// # Errors
    /// The connection is lost, which ends it as well.
    pub async fn release(self) -> Result<(), StoreError> {
        self.transaction.rollback().await?;
        Ok(())
    }

    /// Writes the changed stock, its ledger, and the records. `nonce` is random and marks the batch.
    ///
    /// # Errors
    /// [`StoreError::KeyTaken`] if another transaction took one of the keys meanwhile: the same
    /// batch will find it when it is tried again. [`StoreError::LockTimeout`] if another transaction
    /// has written one of the keys and does not end: see [`Store::taken_keys`]. The database refuses, or is not
    /// available.
    /// Nothing of the batch is written in any of these cases.
    pub async fn write(
        mut self,
        changes: &[StockChange],
        records: &Records<'_>,
        nonce: i64,
    ) -> Result<Writing, StoreError> {
        let writing = records.write(changes, &self.rows, nonce, &mut self.transaction);
        let (placed, rows) = writing.await?;
        let entry = changes.first().map_or((ProductId(0), 0), |it| (it.product_id, it.version));
        let token = BatchToken { xid: self.xid, nonce, entry };
        let Self { transaction, places, hold, .. } = self;
        Ok(Writing { transaction, placed, token, rows, places, hold })
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
        match self.transaction.commit().await {
            Ok(()) => {
                self.hold.over();
                self.places.learn(&self.rows);
                Ok(self.placed)
            }
            Err(source) => {
                Err(Box::new(CommitError { placed: self.placed, token: self.token, source }))
            }
        }
    }
}
