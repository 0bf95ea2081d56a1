//! Turns of changes with an idempotency key that are not batches. In this process, only one change with a key runs at
//! a time. If a change has recently found a key that an open transaction has written, the next changes first wait
//! until their keys are free.

use crate::{
    admission::taken_keys,
    error::StoreError,
    idempotency::IdempotencyKey,
    locked_rows::{ChangedRow, Tried, Turn},
    store::Store,
};

/// The turn of a change with a key. Until it is dropped, no other change of this process has a turn with the same key.
#[derive(Debug)]
pub struct KeyTurn {
    turn: Turn,
    key: IdempotencyKey,
}

impl Store {
    /// Waits for the turn of a change with a key, without a connection: see `locked_rows`. Safe to cancel.
    ///
    /// # Errors
    /// [`StoreError::LockTimeout`] if other changes have the key for too long; [`StoreError::TooManyWaiting`]; the
    /// database is not available.
    pub async fn key_turn(&self, key: &IdempotencyKey) -> Result<KeyTurn, StoreError> {
        let turn = self.turn(ChangedRow::Key(key.id())).await?;
        let turn = KeyTurn { turn, key: *key };
        if self.locked_rows.are_keys_suspect() {
            self.until_key_is_free(&turn).await?;
        }
        Ok(turn)
    }

    /// Waits until no open transaction has written the key of this turn. For a change that has timed out because of
    /// such a transaction. Safe to cancel.
    ///
    /// # Errors
    /// As [`Self::key_turn`].
    pub async fn until_key_is_free(&self, turn: &KeyTurn) -> Result<(), StoreError> {
        let mut tries = turn.turn.tries().await?;
        loop {
            if let Some(()) = tries.again(self.is_key_free(&turn.key).await).await? {
                return Ok(());
            }
        }
    }

    async fn is_key_free(&self, key: &IdempotencyKey) -> Result<Tried<()>, StoreError> {
        let mut session = self.changes().session().await?;
        if taken_keys(&mut session, &[*key]).await?.is_empty() {
            return Ok(Tried::Done(()));
        }
        self.locked_rows.suspect_keys();
        Ok(Tried::Locked(None))
    }
}
