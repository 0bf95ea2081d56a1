//! Rows that a batch could not lock: whether they exist, their versions, and keys that open transactions have
//! written.
//!
//! These queries do not wait for rows of products, orders or holds.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_domain::{HoldId, OrderId, ProductId};
use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

use crate::{connections::Session, error::StoreError, idempotency::IdempotencyKey, store::Store};

/// Rows that a batch could not lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MissedRows {
    /// Products.
    pub products: BTreeSet<ProductId>,
    /// Orders.
    pub orders: BTreeSet<OrderId>,
    /// Holds.
    pub holds: BTreeSet<HoldId>,
}

/// The existing rows of [`MissedRows`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenRows {
    /// Products, retired or not, with their committed versions.
    pub products: BTreeMap<ProductId, i64>,
    /// Orders.
    pub orders: BTreeSet<OrderId>,
    /// Holds.
    pub holds: BTreeSet<HoldId>,
}

/// Writes keys for a moment. This is one message. A `DO` block has no parameters, so its text contains the keys.
const TAKEN_KEYS: &str = r"
BEGIN;
SET LOCAL lock_timeout = 1;
SET LOCAL holdfast.taken_keys = '';
DO $$
DECLARE
    asked uuid[] := '{{keys}}';
    taken text[] := '{}';
    one uuid;
BEGIN
    BEGIN
        INSERT INTO idempotency_keys (key, fingerprint, kind, result_id)
        SELECT unnest, 0, 'order', 0 FROM unnest(asked) ORDER BY 1
        ON CONFLICT DO NOTHING;
        RETURN;
    EXCEPTION WHEN lock_not_available THEN NULL; END;
    FOREACH one IN ARRAY asked LOOP
        BEGIN
            INSERT INTO idempotency_keys (key, fingerprint, kind, result_id)
            VALUES (one, 0, 'order', 0)
            ON CONFLICT DO NOTHING;
        EXCEPTION WHEN lock_not_available THEN
            taken := taken || one::text;
        END;
    END LOOP;
    PERFORM set_config('holdfast.taken_keys', array_to_string(taken, ','), true);
END $$;
SELECT current_setting('holdfast.taken_keys') AS taken;
ROLLBACK";

impl Store {
    /// Which of these rows exist. Neither locks rows nor waits for locks. Safe to cancel.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn seen(&self, missed: &MissedRows) -> Result<SeenRows, StoreError> {
        let products: Vec<_> = missed.products.iter().map(|id| id.0).collect();
        let orders: Vec<_> = missed.orders.iter().map(|id| id.0).collect();
        let holds: Vec<_> = missed.holds.iter().map(|id| id.0).collect();
        let query = || {
            sqlx::query!(
                r#"
                SELECT 'product' AS "kind!", id AS "id!", version AS "version!"
                FROM products
                WHERE id = ANY ($1)
                UNION ALL
                SELECT 'order', id, 0 FROM orders WHERE id = ANY ($2)
                UNION ALL
                SELECT 'hold', id, 0 FROM holds WHERE id = ANY ($3)
                "#,
                &products,
                &orders,
                &holds,
            )
        };
        let mut session = self.admission_for_reading().await?;
        let rows = match query().fetch_all(&mut session).await {
            Err(_) if session.is_dead() => {
                drop(session);
                query().fetch_all(&mut self.admission_for_reading().await?).await?
            }
            rows => rows?,
        };
        let mut seen = SeenRows::default();
        for row in rows {
            match row.kind.as_str() {
                "product" => drop(seen.products.insert(ProductId(row.id), row.version)),
                "order" => drop(seen.orders.insert(OrderId(row.id))),
                _ => drop(seen.holds.insert(HoldId(row.id))),
            }
        }
        Ok(seen)
    }

    /// Which of these keys another transaction has written and not committed yet: a batch that writes such a key
    /// waits for that transaction. This writes the keys and rolls back, without locking a row of a product, and waits
    /// for at most a millisecond for each key. Safe to cancel.
    ///
    /// # Errors
    /// The database refuses, or is not available. Nothing is left behind.
    pub async fn taken_keys(&self, keys: &[IdempotencyKey]) -> Result<BTreeSet<u128>, StoreError> {
        taken_keys(&mut self.admission().await?, keys).await
    }
}

/// Which of these keys another transaction has written and not committed yet: see [`Store::taken_keys`].
pub(crate) async fn taken_keys(
    session: &mut Session,
    keys: &[IdempotencyKey],
) -> Result<BTreeSet<u128>, StoreError> {
    let keys: Vec<_> = keys.iter().map(|key| key.key.to_string()).collect();
    let sql = TAKEN_KEYS.replace("{keys}", &keys.join(","));
    // Only UUIDs are put into the text. The session is outside of a transaction before and after this message.
    let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(session).await?;
    let taken: String = rows.first().map_or(Ok(String::new()), |row| row.try_get("taken"))?;
    taken
        .split(',')
        .filter(|key| !key.is_empty())
        .map(|key| {
            Uuid::parse_str(key).map(|key| key.as_u128()).map_err(|error| StoreError::Corrupt {
                what: "idempotency key",
                reason: error.to_string(),
            })
        })
        .collect()
}
