//! A row lock held by another session, as by a report or a person with a database client.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};

/// A product's row, locked. Dropping it gives the lock up with the connection.
#[derive(Debug)]
pub struct RowLock {
    connection: PgConnection,
}

impl RowLock {
    /// Locks a product's row; waits for whoever holds it.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn take(database_url: &str, product_id: i64) -> anyhow::Result<Self> {
        let mut connection = database_url.parse::<PgConnectOptions>()?.connect().await?;
        connection.execute("BEGIN").await?;
        sqlx::query("SELECT FROM products WHERE id = $1 FOR UPDATE")
            .bind(product_id)
            .fetch_one(&mut connection)
            .await?;
        Ok(Self { connection })
    }

    /// Gives it up.
    ///
    /// # Errors
    /// When the connection is lost, which gives it up as well.
    pub async fn release(mut self) -> anyhow::Result<()> {
        self.connection.execute("ROLLBACK").await?;
        self.connection.close().await?;
        Ok(())
    }
}
