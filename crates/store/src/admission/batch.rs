//! A batch, from its locks to its commit.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use holdfast_domain::{ProductChange, ProductId, StockAllocator};

use super::{
    lock::{LockMode, LockedBatch, LockedRow, WantedRows, lock, look_up},
    outcome::{BatchToken, Evidence},
    records::Records,
};
use crate::{
    connections::Transaction,
    error::StoreError,
    hand_over::HandOver,
    idempotency::{IdempotencyKey, KeyedResult},
    store::Store,
    tuple_ids::{TupleId, TupleIdCache},
};

/// A transaction that has locked the rows of a batch's products.
///
/// Dropping it rolls back in the background.
#[derive(Debug)]
pub struct Batch {
    pub(super) transaction: Transaction,
    xid: String,
    pub(super) allocator: StockAllocator,
    keyed: BTreeMap<u128, KeyedResult>,
    rows: BTreeMap<ProductId, LockedRow>,
    cache: Arc<TupleIdCache>,
    locked: LockedTime,
}

/// Measures how long the rows are locked.
#[derive(Debug)]
struct LockedTime {
    since: Instant,
    hand_over: HandOver,
}

impl LockedTime {
    fn over(self) {
        self.hand_over.held(self.since.elapsed());
    }
}

/// A batch that is written and not yet committed. Dropping it rolls back in the background.
#[derive(Debug)]
pub struct Writing {
    transaction: Transaction,
    token: BatchToken,
    /// Where the rows of the products are after the commit.
    tuple_ids: Vec<(ProductId, TupleId)>,
    cache: Arc<TupleIdCache>,
    locked: LockedTime,
}

/// A commit without a clear answer. [`Store::outcome`] determines whether the batch was committed.
#[derive(Debug, thiserror::Error)]
#[error("the commit was not answered")]
pub struct CommitError {
    /// Identifies the batch.
    pub token: BatchToken,
    /// The error of the connection.
    #[source]
    pub source: StoreError,
}

impl Store {
    /// Begins a batch: reads the keys and locks the existing rows. Unless `mode` waits for them, rows that other
    /// transactions have locked are left out: [`Store::seen`] distinguishes them from rows that do not exist.
    ///
    /// If the database is not available, for example because a pooled connection is dead, this is tried once more,
    /// because nothing was written yet. Safe to cancel.
    ///
    /// # Errors
    /// [`StoreError::LockTimeout`] if `mode` waits, or a whole table is locked; the database is not available.
    pub async fn lock_batch(
        &self,
        wanted: &WantedRows<'_>,
        mode: LockMode,
    ) -> Result<Batch, StoreError> {
        match self.try_lock_batch(wanted, mode).await {
            Err(StoreError::Unavailable(error)) => {
                tracing::debug!(%error, "the database was unavailable; beginning the batch again");
                self.try_lock_batch(wanted, mode).await
            }
            result => result,
        }
    }

    async fn try_lock_batch(
        &self,
        wanted: &WantedRows<'_>,
        mode: LockMode,
    ) -> Result<Batch, StoreError> {
        let mut session = self.admission().await?;
        let wait = self.hand_over.wait(self.settings.lock_timeout);
        let locked = lock(&mut session, wanted, mode, wait, &self.tuple_ids).await?;
        let LockedBatch { xid, allocator, keyed, rows } = locked;
        let transaction = Transaction::begun(session);
        let cache = Arc::clone(&self.tuple_ids);
        let locked = LockedTime { since: Instant::now(), hand_over: self.hand_over.clone() };
        Ok(Batch { transaction, xid, allocator, keyed, rows, cache, locked })
    }
}

impl Batch {
    /// The locked rows, before any allocation.
    pub fn allocator(&self) -> &StockAllocator {
        &self.allocator
    }

    /// The result that a key had before this batch, if any.
    pub fn keyed(&self, key: &IdempotencyKey) -> Option<&KeyedResult> {
        self.keyed.get(&key.id())
    }

    /// Reads keys again. Other transactions can no longer use a key of a request whose rows this batch has locked.
    ///
    /// # Errors
    /// The database refuses or is not available. The transaction can then no longer be used.
    pub async fn look_up(&mut self, keys: &[IdempotencyKey]) -> Result<(), StoreError> {
        self.keyed.extend(look_up(&mut self.transaction, keys).await?);
        Ok(())
    }

    /// Ends the transaction without a change.
    ///
    /// # Errors
    /// The connection is lost, which ends the transaction as well.
    pub async fn release(self) -> Result<(), StoreError> {
        self.transaction.rollback().await?;
        Ok(())
    }

    /// Writes the changed stock, its ledger and the records, and fills in the stored values of the records. `nonce` is
    /// random and identifies the batch. If this is dropped before the answer, nothing is written.
    ///
    /// # Errors
    /// [`StoreError::KeyTaken`] if another transaction took one of the keys in the meantime: the batch finds the key
    /// when it is retried. [`StoreError::LockTimeout`] if another transaction has written one of the keys and does not
    /// end: see [`Store::taken_keys`]. The database refuses, or is not available. Nothing of the batch is written in
    /// any of these cases.
    pub async fn write(
        mut self,
        changes: &[ProductChange],
        records: &mut Records<'_>,
        nonce: i64,
    ) -> Result<Writing, StoreError> {
        let corrupt = || StoreError::Corrupt {
            what: "batch",
            reason: "it has records and changes no product".to_owned(),
        };
        if changes.is_empty() {
            return Err(corrupt());
        }
        let tuple_ids = records.write(changes, &self.rows, nonce, &mut self.transaction).await?;
        let enters = |change: &&ProductChange| {
            self.rows.get(&change.product_id).is_none_or(|row| row.enters(change))
        };
        // `Store::outcome` looks for this row if the commit is not answered.
        let entry = changes.iter().find(enters);
        let entry = entry.map(|change| Evidence::Entry(change.product_id, change.version));
        let evidence =
            entry.or_else(|| records.first_order().map(Evidence::Order)).ok_or_else(corrupt)?;
        let token = BatchToken { xid: self.xid, nonce, evidence };
        let Self { transaction, cache, locked, .. } = self;
        Ok(Writing { transaction, token, tuple_ids, cache, locked })
    }
}

impl Writing {
    /// Identifies the batch, regardless of the outcome of its commit.
    pub fn token(&self) -> &BatchToken {
        &self.token
    }

    /// Commits. Once this is polled, cancelling it leaves the outcome open.
    ///
    /// # Errors
    /// The outcome is unknown: see [`CommitError`].
    pub async fn commit(self) -> Result<(), Box<CommitError>> {
        let Self { transaction, token, tuple_ids, cache, locked } = self;
        match transaction.commit().await {
            Ok(()) => {
                locked.over();
                cache.learn(&tuple_ids);
                Ok(())
            }
            Err(source) => Err(Box::new(CommitError { token, source })),
        }
    }
}
