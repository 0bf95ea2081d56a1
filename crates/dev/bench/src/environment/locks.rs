//! Row locks of another session, such as a report or a database client.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};

/// The most attempts to write the keys.
const WRITE_TRIES: u32 = 20;

#[derive(Clone, Debug, Default)]
pub struct RowsToLock {
    /// Products, whose rows are locked.
    pub products: Vec<i64>,
    /// Orders, whose rows are locked.
    pub orders: Vec<i64>,
    /// Orders whose idempotency keys are being written: their rows are deleted first, and inserted again in the transaction
    /// that holds the locks.
    pub keys_of: Vec<i64>,
}

/// Locked rows. A drop closes the connection, which releases them.
#[derive(Debug)]
pub struct RowLock {
    connection: PgConnection,
}

impl RowLock {
    /// Locks a product's row; waits until it is unlocked.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn take(database_url: &str, product_id: i64) -> anyhow::Result<Self> {
        let rows = RowsToLock { products: vec![product_id], ..RowsToLock::default() };
        Self::take_all(database_url, &rows).await
    }

    /// Locks all rows; waits until they are unlocked.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn take_all(database_url: &str, rows: &RowsToLock) -> anyhow::Result<Self> {
        let mut connection = database_url.parse::<PgConnectOptions>()?.connect().await?;
        // A client may write a key again before we do.
        for _ in 0..WRITE_TRIES {
            if write_keys(&mut connection, &rows.keys_of).await? {
                for (sql, ids) in [
                    ("SELECT FROM orders WHERE id = ANY($1) ORDER BY id FOR UPDATE", &rows.orders),
                    (
                        "SELECT FROM products WHERE id = ANY($1) ORDER BY id FOR UPDATE",
                        &rows.products,
                    ),
                ] {
                    sqlx::query(sql).bind(ids).execute(&mut connection).await?;
                }
                return Ok(Self { connection });
            }
        }
        anyhow::bail!("clients write the keys first in each attempt")
    }

    /// Releases them. The keys are as before.
    ///
    /// # Errors
    /// The connection is lost, which releases the locks as well.
    pub async fn release(mut self) -> anyhow::Result<()> {
        self.connection.execute("COMMIT").await?;
        self.connection.close().await?;
        Ok(())
    }
}

/// Deletes the keys of these orders, and inserts them again in a transaction that stays open. Returns false if a client has
/// written one in the meantime.
async fn write_keys(connection: &mut PgConnection, orders: &[i64]) -> anyhow::Result<bool> {
    let keys = "DELETE FROM idempotency_keys WHERE kind = 'order' AND result_id = ANY($1) \
                RETURNING key::text, fingerprint, result_id";
    let keys: Vec<(String, i64, i64)> =
        sqlx::query_as(keys).bind(orders).fetch_all(&mut *connection).await?;
    // With a transaction id, so that it counts as a writing transaction even if it locks nothing.
    connection.execute("BEGIN; SELECT pg_current_xact_id()").await?;
    for (key, fingerprint, order_id) in keys {
        let written = sqlx::query(
            "INSERT INTO idempotency_keys (key, fingerprint, kind, result_id) \
             VALUES ($1::uuid, $2, 'order', $3) ON CONFLICT DO NOTHING",
        )
        .bind(key)
        .bind(fingerprint)
        .bind(order_id)
        .execute(&mut *connection)
        .await?;
        if written.rows_affected() == 0 {
            connection.execute("COMMIT").await?;
            return Ok(false);
        }
    }
    Ok(true)
}
