//! Row locks held by another session, as by a report or a person with a database client.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};

/// How often the writing of keys is tried.
const WRITE_TRIES: u32 = 20;

/// What to lock.
#[derive(Clone, Debug, Default)]
pub struct RowsToLock {
    /// Products, whose rows are locked.
    pub products: Vec<i64>,
    /// Orders, whose rows are locked.
    pub orders: Vec<i64>,
    /// Orders whose idempotency keys are in the middle of being written: their rows are taken out first, and put
    /// back in the transaction that holds the locks.
    pub keys_of: Vec<i64>,
}

/// Locked rows. Dropping it gives them up with the connection.
#[derive(Debug)]
pub struct RowLock {
    connection: PgConnection,
}

impl RowLock {
    /// Locks a product's row; waits until it is free.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn take(database_url: &str, product_id: i64) -> anyhow::Result<Self> {
        let rows = RowsToLock { products: vec![product_id], ..RowsToLock::default() };
        Self::take_all(database_url, &rows).await
    }

    /// Locks all rows; waits until they are free.
    ///
    /// # Errors
    /// When the database refuses.
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
        anyhow::bail!("clients write the keys faster than we do")
    }

    /// Gives them up, with the keys as they were.
    ///
    /// # Errors
    /// When the connection is lost, which gives the locks up as well.
    pub async fn release(mut self) -> anyhow::Result<()> {
        self.connection.execute("COMMIT").await?;
        self.connection.close().await?;
        Ok(())
    }
}

/// Takes the keys of these orders out, and puts them back in a transaction that stays open. Returns whether nobody else
/// has written one meanwhile.
async fn write_keys(connection: &mut PgConnection, orders: &[i64]) -> anyhow::Result<bool> {
    let keys = "DELETE FROM idempotency_keys WHERE kind = 'order' AND result_id = ANY($1) \
                RETURNING key::text, fingerprint, result_id";
    let keys: Vec<(String, i64, i64)> =
        sqlx::query_as(keys).bind(orders).fetch_all(&mut *connection).await?;
    // With an id of its own, so that it counts as a transaction that writes also if it locks nothing.
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
