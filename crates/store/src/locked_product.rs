//! Changes of a product while its row is locked. The statement that changes the stock also writes the ledger.

use std::time::Duration;

use holdfast_domain::{
    LedgerEntry, LedgerReason, MAX_STOCK, Money, Product, ProductChanges, ProductDescription,
    ProductId, ProductName, Stock, StockEdit, StockNote,
};

use crate::{
    calls::again,
    connections::Transaction,
    error::StoreError,
    hand_over::HAND_OVER_MIN,
    idempotency::{IdempotencyKey, ResultKind},
    ledger::{LedgerRow, ledger_columns},
    locked_rows::{ChangedRow, Tried, Turn, WhenLocked},
    locks::{lock_one, wait_at_most},
    products::ProductRow,
    sql::checked,
    store::Store,
    time::Time,
};

/// The longest wait for a locked table. A migration that waits for a table blocks it for less time.
const TABLE_WAIT: Duration = Duration::from_millis(200);

/// A product whose row is locked. Dropping it releases the lock without a change.
#[derive(Debug)]
pub struct LockedProduct {
    transaction: Transaction,
    product: Product,
    held: i64,
    // Dropped after the transaction, because the next change of the product in this process begins then.
    _turn: Turn,
}

impl Store {
    /// Locks the row of a product that is for sale. Waits without a connection: see `locked_rows`. Safe to cancel.
    ///
    /// # Errors
    /// [`StoreError::LockTimeout`] if other transactions have locked it for too long; [`StoreError::TooManyWaiting`];
    /// the database is not available.
    pub async fn lock_product(&self, id: ProductId) -> Result<Option<LockedProduct>, StoreError> {
        let turn = self.turn(ChangedRow::Product(id)).await?;
        let mut tries = turn.tries().await?;
        let locked = loop {
            let waits = tries.waits();
            let attempt = again(|| self.try_lock_product(id, waits)).await;
            if let Some(locked) = tries.again(attempt).await? {
                break locked;
            }
        };
        drop(tries);
        let Some((transaction, product, held)) = locked else { return Ok(None) };
        Ok(Some(LockedProduct { transaction, product, held, _turn: turn }))
    }

    async fn try_lock_product(
        &self,
        id: ProductId,
        waits: WhenLocked,
    ) -> Result<Tried<Option<(Transaction, Product, i64)>>, StoreError> {
        let wait = match waits {
            // Locked rows are skipped, so this limits only the wait for a locked table.
            WhenLocked::No => TABLE_WAIT,
            WhenLocked::HandOver => self.wait_in_database(waits),
        };
        let mut transaction = self.begin_change(wait).await?;
        match lock_one(&mut transaction, id, waits).await? {
            Tried::Done(Some((product, held))) => {
                if waits == WhenLocked::HandOver {
                    wait_at_most(&mut transaction, TABLE_WAIT).await?;
                }
                Ok(Tried::Done(Some((transaction, product, held))))
            }
            tried => {
                transaction.rollback().await?;
                Ok(match tried {
                    Tried::Locked(version) => Tried::Locked(version),
                    Tried::Done(_) => Tried::Done(None),
                })
            }
        }
    }
}

impl LockedProduct {
    /// The product, which nothing else can change now.
    pub fn product(&self) -> &Product {
        &self.product
    }

    /// The highest stock that it can have, because units in holds must be able to return.
    pub fn max_stock(&self) -> i64 {
        MAX_STOCK.saturating_sub(self.held).max(self.product.stock.units())
    }

    /// The version that a change will give it. The read cache must be fenced with it before the commit.
    pub fn next_version(&self) -> i64 {
        self.product.version + 1
    }

    /// Writes a partial change and commits it.
    ///
    /// # Errors
    /// [`StoreError::Unanswered`] if the commit was not answered, so that its outcome is unknown. Otherwise nothing was
    /// changed.
    pub async fn update(mut self, patch: &ProductChanges) -> Result<Product, StoreError> {
        let edit = patch.stock.as_ref();
        let row = sqlx::query_as!(
            ProductRow,
            r#"
            WITH changed AS (
                UPDATE products SET
                    name = coalesce($2, name),
                    description = CASE WHEN $3 THEN $4 ELSE description END,
                    price_minor = coalesce($5, price_minor),
                    stock = coalesce($6, stock),
                    version = version + 1,
                    updated_at = now()
                WHERE id = $1
                RETURNING id, name, description, price_minor, stock, version, held
            ), entry AS (
                INSERT INTO stock_ledger
                    (product_id, version, reason, delta, stock_after, held_after, note)
                SELECT id, version, $7, stock - $8, stock, held, $9
                FROM changed
                WHERE stock <> $8
            )
            SELECT id, name, description, price_minor, stock, version
            FROM changed
            "#,
            self.product.id.0,
            patch.name.as_ref().map(ProductName::as_str),
            patch.description.is_some(),
            patch.description.as_ref().and_then(Option::as_ref).map(ProductDescription::as_str),
            patch.price.map(Money::minor),
            edit.map(|edit| edit.stock.units()),
            edit.map(|edit| edit.reason.as_str()),
            self.product.stock.units(),
            edit.and_then(|edit| edit.note.as_ref()).map(StockNote::as_str),
        )
        .fetch_one(&mut self.transaction)
        .await?;
        let product = row.try_into()?;
        self.transaction.commit().await?;
        Ok(product)
    }

    /// Sets a new stock, and commits it with `key`.
    ///
    /// # Errors
    /// [`StoreError::KeyTaken`] if another transaction has taken the key in the meantime, and
    /// [`StoreError::LockTimeout`] if it does not end: see [`Store::key_turn`]; [`StoreError::Unanswered`] if the
    /// commit was not answered, so that its outcome is unknown. Otherwise nothing was changed.
    pub async fn adjust(
        mut self,
        edit: &StockEdit,
        key: Option<&IdempotencyKey>,
    ) -> Result<LedgerEntry, StoreError> {
        if key.is_some() {
            // Another transaction may have written the key and not committed.
            wait_at_most(&mut self.transaction, HAND_OVER_MIN).await?;
        }
        let row = checked!(
            LedgerRow,
            [
                r"WITH changed AS (
                    UPDATE products SET stock = $2, version = version + 1, updated_at = now()
                    WHERE id = $1
                    RETURNING id, stock, version, held
                ), entry AS (
                    INSERT INTO stock_ledger
                        (product_id, version, reason, delta, stock_after, held_after, note)
                    SELECT id, version, $3, stock - $4, stock, held, $5
                    FROM changed
                    RETURNING *
                ), keyed AS (
                    INSERT INTO idempotency_keys (key, fingerprint, kind, result_id)
                    SELECT $6::uuid, $7, $8, version
                    FROM changed
                    WHERE $6::uuid IS NOT NULL
                    ON CONFLICT DO NOTHING
                    RETURNING key
                )
                SELECT" {ledger_columns}
                r"FROM entry
                WHERE $6::uuid IS NULL OR EXISTS (SELECT FROM keyed)"
            ],
            self.product.id.0,
            edit.stock.units(),
            edit.reason.as_str(),
            self.product.stock.units(),
            edit.note.as_ref().map(StockNote::as_str),
            key.map(|key| key.key),
            key.map(|key| key.fingerprint),
            ResultKind::Adjustment.as_str(),
        )
        .fetch_optional(&mut self.transaction)
        .await?;
        let entry = row.ok_or(StoreError::KeyTaken)?.try_into()?;
        self.transaction.commit().await?;
        Ok(entry)
    }

    /// The stock with `delta` more units, if it is within the limits.
    pub fn stock_with(&self, delta: i64) -> Option<StockEdit> {
        let sum = self.product.stock.units().checked_add(delta)?;
        let stock = Stock::new(sum).ok().filter(|_| sum <= self.max_stock())?;
        Some(StockEdit { stock, reason: LedgerReason::Adjustment, note: None })
    }

    /// Removes the product from the shop, and commits that. Its row stays, because orders refer to it.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub async fn retire(mut self) -> Result<(), StoreError> {
        sqlx::query!(
            r#"
            UPDATE products SET retired_at = now(), updated_at = now(), version = version + 1
            WHERE id = $1
            "#,
            self.product.id.0,
        )
        .execute(&mut self.transaction)
        .await?;
        self.transaction.commit().await?;
        Ok(())
    }
}
