//! Waiting for rows that other transactions have locked, without a connection.
//!
//! A change of a caller first takes its [`Turn`] at its row: of all changes of a row in this process, one is at the
//! front, and the others wait behind it in order of arrival. The change at the front locks the row without waiting for
//! it. If another transaction has locked the row, the change returns its connection and tries again from time to time.
//! Only a few of these changes are tried at the same time. For a while, this also applies to the first attempt of later
//! changes of the same row. So changes of locked rows use only a few connections, whatever the number of these rows and
//! changes.
//!
//! If the version of a product changes between two attempts, batches take turns on its row. A change would hardly ever
//! find such a row unlocked, so it waits in the database for as long as a batch needs (`hand_over`). A sale locks many
//! rows of products, and waits for them in this way after its first attempt. Both kinds of waits use a limited number
//! of connections.

use std::{collections::HashMap, sync::Arc, time::Duration};

use holdfast_domain::{OrderId, ProductId};
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::{Instant, sleep, timeout},
};

use crate::error::{ChangeError, StoreError};

/// The most changes of one row, including those that wait.
const ROW_MAX: usize = 256;
/// The most changes of all rows, including those that wait.
const ALL_MAX: usize = 8192;
/// The pause before the second attempt.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// The pause after an attempt that waited in the database with other rows locked. During the pause, these rows are
/// free.
const PAUSE_OF_SALES: Duration = Duration::from_millis(200);
/// How long a row is assumed to be locked after it was found locked.
const LOCKED_FOR: Duration = Duration::from_secs(10);
/// The most rows without waiting changes that are remembered as locked.
const REMEMBERED_MAX: usize = 1024;
/// After an uncommitted key of another transaction was found, changes check their keys first for this long.
const SUSPECT_FOR: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ChangedRow {
    Product(ProductId),
    /// A dead letter to replay.
    Order(OrderId),
    ApiKey(String),
    /// An idempotency key, by its id.
    Key(u128),
    /// A sale, with the rows of its products.
    Sale(String),
    /// The sums in the report of a sale.
    SaleReport(String),
}

/// What an attempt does if the row is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenLocked {
    /// It returns [`Tried::Locked`].
    No,
    /// It waits for as long as a batch needs.
    HandOver,
}

/// The result of an attempt.
#[derive(Debug)]
pub(crate) enum Tried<T> {
    Done(T),
    /// Another transaction has locked the row. Contains the version of the row, if it has one.
    Locked(Option<i64>),
}

/// The rows with changes, and the changes that wait for them. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct LockedRows(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rows: Mutex<Rows>,
    /// For attempts that do not wait.
    tries: Semaphore,
    /// For attempts that wait in the database.
    hand_overs: Semaphore,
    /// For attempts of sales that wait in the database with products locked.
    sales: Semaphore,
    suspect_keys_until: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Rows {
    rows: HashMap<ChangedRow, RowQueue>,
    changes: usize,
}

#[derive(Debug)]
struct RowQueue {
    front: Arc<Semaphore>,
    changes: usize,
    /// When the row was last found locked, unless a change has locked it since then.
    locked_at: Option<Instant>,
}

impl RowQueue {
    fn is_locked(&self) -> bool {
        self.locked_at.is_some_and(|at| at.elapsed() < LOCKED_FOR)
    }
}

/// A place in the queue of a row. Dropping it leaves the queue.
#[derive(Debug)]
struct Place {
    row: ChangedRow,
    rows: Arc<Inner>,
}

/// The turn of a change at a row. Until it is dropped, no other change of this process has a turn at the same row.
#[derive(Debug)]
pub(crate) struct Turn {
    // Dropped first, so that the next change gets its turn.
    _front: OwnedSemaphorePermit,
    place: Place,
    until: Instant,
}

impl LockedRows {
    /// For a store with this number of connections for changes.
    pub fn new(connections: usize) -> Self {
        Self(Arc::new(Inner {
            rows: Mutex::default(),
            // Together fewer than all connections, because changes of unlocked rows need some.
            tries: Semaphore::new((connections / 4).max(1)),
            hand_overs: Semaphore::new((connections / 4).max(1)),
            sales: Semaphore::new(1),
            suspect_keys_until: Mutex::default(),
        }))
    }

    /// Waits for the turn of a change at a row, for at most `limit`, which is also the limit for the attempts of the
    /// turn.
    ///
    /// # Errors
    /// [`StoreError::LockTimeout`] if the turn does not come in time; [`StoreError::TooManyWaiting`].
    pub(crate) async fn turn(&self, row: ChangedRow, limit: Duration) -> Result<Turn, StoreError> {
        let until = Instant::now() + limit;
        let (place, front) = self.enter(row)?;
        let front = timeout(limit, front.acquire_owned()).await.map_err(|_| stays_locked())?;
        // The semaphore is never closed.
        let front = front.map_err(|_| StoreError::from(sqlx::Error::PoolClosed))?;
        Ok(Turn { _front: front, place, until })
    }

    fn enter(&self, row: ChangedRow) -> Result<(Place, Arc<Semaphore>), StoreError> {
        let mut rows = self.0.rows.lock();
        let at_row = rows.rows.get(&row).map_or(0, |queue| queue.changes);
        if at_row >= ROW_MAX || rows.changes >= ALL_MAX {
            return Err(StoreError::TooManyWaiting);
        }
        rows.changes += 1;
        if rows.rows.len() >= ALL_MAX.min(rows.changes + REMEMBERED_MAX) {
            rows.rows.retain(|_, queue| queue.changes > 0);
        }
        let queue = rows.rows.entry(row.clone()).or_insert_with(|| RowQueue {
            front: Arc::new(Semaphore::new(1)),
            changes: 0,
            locked_at: None,
        });
        queue.changes += 1;
        let front = Arc::clone(&queue.front);
        Ok((Place { row, rows: Arc::clone(&self.0) }, front))
    }

    /// Records that an open transaction has written a key.
    pub fn suspect_keys(&self) {
        *self.0.suspect_keys_until.lock() = Some(Instant::now() + SUSPECT_FOR);
    }

    /// Whether there may be such keys.
    pub fn are_keys_suspect(&self) -> bool {
        self.0.suspect_keys_until.lock().is_some_and(|until| Instant::now() < until)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut rows = self.rows.rows.lock();
        rows.changes = rows.changes.saturating_sub(1);
        if let Some(queue) = rows.rows.get_mut(&self.row) {
            queue.changes = queue.changes.saturating_sub(1);
            if queue.changes == 0 && !queue.is_locked() {
                rows.rows.remove(&self.row);
            }
        }
    }
}

impl Turn {
    /// The attempts of this turn. Returns when it is time for the first attempt. Safe to cancel.
    ///
    /// # Errors
    /// [`StoreError::LockTimeout`] if the row is assumed to be locked, and the limit of the turn has passed.
    pub(crate) async fn tries(&self) -> Result<Tries<'_>, StoreError> {
        let mut tries = Tries {
            turn: self,
            waits: WhenLocked::No,
            pause: PAUSE_MIN,
            version: None,
            permit: None,
        };
        let rows = &self.place.rows;
        let is_locked = rows.rows.lock().rows.get(&self.place.row).is_some_and(RowQueue::is_locked);
        if is_locked {
            tries.permit = Some(self.permit(&rows.tries).await?);
        }
        Ok(tries)
    }

    async fn permit<'t>(&self, permits: &'t Semaphore) -> Result<SemaphorePermit<'t>, StoreError> {
        match timeout(self.left(), permits.acquire()).await {
            Ok(Ok(permit)) if !self.left().is_zero() => Ok(permit),
            _ => Err(stays_locked()),
        }
    }

    /// Remembers whether the row was found locked.
    fn found(&self, is_locked: bool) {
        let mut rows = self.place.rows.rows.lock();
        if let Some(queue) = rows.rows.get_mut(&self.place.row) {
            queue.locked_at = is_locked.then(Instant::now);
        }
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

/// The attempts of a turn. [`Self::waits`] says how each attempt must wait, and its result is passed to
/// [`Self::again`].
#[derive(Debug)]
pub(crate) struct Tries<'t> {
    turn: &'t Turn,
    waits: WhenLocked,
    pause: Duration,
    version: Option<i64>,
    /// For the next attempt.
    permit: Option<SemaphorePermit<'t>>,
}

impl Tries<'_> {
    /// What the next attempt does if the row is locked.
    pub fn waits(&self) -> WhenLocked {
        self.waits
    }

    /// The result of an attempt. `None` if the row was locked: then this returns when it is time for the next attempt.
    /// Safe to cancel.
    ///
    /// # Errors
    /// [`StoreError::LockTimeout`] if the row stays locked until the limit of the turn; the error of the attempt.
    pub(crate) async fn again<T, E: ChangeError>(
        &mut self,
        tried: Result<Tried<T>, E>,
    ) -> Result<Option<T>, E> {
        drop(self.permit.take());
        let seen = match tried {
            Ok(Tried::Done(done)) => {
                self.turn.found(false);
                return Ok(Some(done));
            }
            Ok(Tried::Locked(version)) => version,
            Err(error) if error.is_lock_timeout() => None,
            Err(error) => return Err(error),
        };
        self.turn.found(true);
        let changes = self.version.is_some() && seen.is_some() && self.version != seen;
        self.version = seen;
        let rows = &self.turn.place.rows;
        let permits = if matches!(self.turn.place.row, ChangedRow::Sale(_)) {
            if self.waits == WhenLocked::HandOver {
                self.pause = PAUSE_OF_SALES;
            }
            self.waits = WhenLocked::HandOver;
            &rows.sales
        } else if changes {
            (self.waits, self.pause) = (WhenLocked::HandOver, PAUSE_MIN);
            &rows.hand_overs
        } else {
            self.waits = WhenLocked::No;
            &rows.tries
        };
        if !changes {
            sleep(self.pause.min(self.turn.left())).await;
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        }
        self.permit = Some(self.turn.permit(permits).await?);
        Ok(None)
    }
}

/// A row stayed locked until the limit.
fn stays_locked() -> StoreError {
    #[derive(Debug, thiserror::Error)]
    #[error("another transaction kept the row locked")]
    struct StaysLocked;

    StoreError::LockTimeout(sqlx::Error::AnyDriverError(Box::new(StaysLocked)))
}

#[cfg(test)]
mod tests;
