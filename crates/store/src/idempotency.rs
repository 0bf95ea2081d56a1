//! Idempotency keys and their results.
//!
//! A key's row is written in the transaction of its result, so either both exist or neither does. A batch looks up its
//! keys before it locks anything. If another transaction takes one of them in the meantime, the insert notices it, and
//! the batch is retried.

use std::time::Duration;

use holdfast_domain::named;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{error::StoreError, rows::word, store::Store, time::interval};

/// A key with its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    pub(crate) key: Uuid,
    pub(crate) fingerprint: i64,
    /// The fingerprints of the same request in earlier releases, if they differ.
    earlier: [Option<i64>; 2],
}

named! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum ResultKind {
        /// An order; the id is the order's.
        Order = "order",
        /// A hold; the id is the hold's.
        Hold = "hold",
        /// A change of a product's stock; the id is the new version of the product.
        Adjustment = "adjustment",
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyedResult {
    /// Shows whether the request was the same.
    pub(crate) fingerprint: i64,
    pub kind: ResultKind,
    pub id: i64,
}

impl IdempotencyKey {
    /// `scope` separates callers that may use the same key, and `request` identifies the request. Both are hashed with
    /// SHA-256: 128 bits distinguish keys, and 64 bits the requests of a key.
    pub fn new(scope: &str, key: &str, request: &[u8]) -> Self {
        let mut hash = Sha256::new();
        // The length distinguishes ("ab", "c") from ("a", "bc").
        hash.update((scope.len() as u64).to_be_bytes());
        hash.update(scope);
        hash.update(key);
        let key: [u8; 32] = hash.finalize().into();
        let mut half = [0; 16];
        half.copy_from_slice(&key[..16]);
        Self { key: Uuid::from_bytes(half), fingerprint: fingerprint(request), earlier: [None; 2] }
    }

    /// Adds the fingerprints that earlier releases computed for the same request, because their keys are still kept.
    #[must_use]
    pub fn or_earlier_forms(self, requests: [&[u8]; 2]) -> Self {
        Self { earlier: requests.map(|request| Some(fingerprint(request))), ..self }
    }

    /// Only the key, to compare it with others.
    pub fn id(&self) -> u128 {
        self.key.as_u128()
    }

    /// Whether both are the same key with the same request.
    pub fn is_repeat_of(&self, other: &Self) -> bool {
        (self.key, self.fingerprint) == (other.key, other.fingerprint)
    }

    /// Whether the result is that of the same request.
    pub fn led_to(&self, result: &KeyedResult) -> bool {
        self.fingerprint == result.fingerprint || self.earlier.contains(&Some(result.fingerprint))
    }
}

fn fingerprint(request: &[u8]) -> i64 {
    let request: [u8; 32] = Sha256::digest(request).into();
    let mut quarter = [0; 8];
    quarter.copy_from_slice(&request[..8]);
    i64::from_be_bytes(quarter)
}

impl Store {
    /// The result of a key, if there is one. A synchronous standby also has it.
    ///
    /// # Errors
    /// The database is not available, or the standby does not confirm.
    pub async fn keyed(&self, key: &IdempotencyKey) -> Result<Option<KeyedResult>, StoreError> {
        let row = sqlx::query!(
            r#"
            SELECT fingerprint, kind, result_id
            FROM idempotency_keys
            WHERE key = $1
            "#,
            key.key,
        )
        .fetch_optional(self.reads())
        .await?;
        let Some(row) = row else { return Ok(None) };
        self.replicated().await?;
        let kind = word("kind of an idempotency key's result", &row.kind)?;
        Ok(Some(KeyedResult { fingerprint: row.fingerprint, kind, id: row.result_id }))
    }

    /// Deletes keys that are older than `age`, oldest first, at most `limit`. Returns the number of deleted keys.
    ///
    /// # Errors
    /// The database is not available. Safe to do again.
    pub async fn purge_idempotency_keys(
        &self,
        age: Duration,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let done = sqlx::query!(
            r#"
            DELETE FROM idempotency_keys
            WHERE key = ANY (ARRAY(
                SELECT key
                FROM idempotency_keys
                WHERE created_at < now() - $1::interval
                ORDER BY created_at
                LIMIT $2
                FOR UPDATE SKIP LOCKED
            ))
            "#,
            interval(age),
            i64::from(limit),
        )
        .execute(self.work())
        .await?;
        Ok(done.rows_affected())
    }
}

#[cfg(test)]
mod tests {
    use super::IdempotencyKey;

    #[test]
    fn scopes_keys_and_requests_are_distinguished() {
        let key = IdempotencyKey::new("ab", "c", b"1");
        assert!(key.is_repeat_of(&IdempotencyKey::new("ab", "c", b"1")));
        assert_ne!(key.id(), IdempotencyKey::new("a", "bc", b"1").id());
        assert_ne!(key.id(), IdempotencyKey::new("ab", "d", b"1").id());
        let other = IdempotencyKey::new("ab", "c", b"2");
        assert!(key.id() == other.id() && !key.is_repeat_of(&other));
    }
}
