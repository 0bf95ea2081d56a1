//! Keeps the planner's statistics up to date for tables that grow fast.
//!
//! The server keeps plans until there are new statistics of their tables, and it updates statistics at most once a
//! minute. A plan for a small table may read all of it for each requested row, and in a flash sale the table is large
//! within seconds. The same is true for a table that was empty at the last update, such as the table of unfinished
//! orders after a sale: the planner assumes that it is empty however large it becomes.

use sqlx::{AssertSqlSafe, PgExecutor};

use crate::{connections::Transaction, error::StoreError, store::Store};

/// The tables that grow.
const TABLES: [&str; 14] = [
    "api_keys",
    "archive_files",
    "archived_units",
    "completed_orders",
    "holds",
    "idempotency_keys",
    "order_lines",
    "orders",
    "products",
    "sale_products",
    "sale_seconds",
    "sales",
    "stock_ledger",
    "unfinished_orders",
];

/// The advisory lock of a transaction that updates statistics: "statisti" in ASCII.
const LOCK: i64 = 0x7374_6174_6973_7469;

/// The sample has 300 times this number of rows. Only the sizes are urgent; the server computes better statistics
/// later.
const SAMPLE: &str = "SET LOCAL default_statistics_target = 10";

impl Store {
    /// Updates the statistics of tables that have more than twice as many rows as at the last update. The server then
    /// makes new plans for all statements that use them. Returns these tables. Skips a table while another session
    /// updates statistics, while the server vacuums the table, and always if the role does not own it. Safe to cancel.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn refresh_statistics(&self) -> Result<Vec<&'static str>, StoreError> {
        let mut made = Vec::new();
        for table in outgrown(self.reads()).await? {
            match self.analyze(table).await {
                Ok(true) => made.push(table),
                // The lock was not free, or the disk is slow. The next call tries again.
                Ok(false) | Err(StoreError::LockTimeout(_) | StoreError::Timeout(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(made)
    }

    /// Updates the statistics of this table, unless another session is doing so or has just done so.
    async fn analyze(&self, table: &str) -> Result<bool, StoreError> {
        let session = self.work().session().await?;
        let mut transaction = Transaction::begin(session).await.map_err(|(_, error)| error)?;
        let locked =
            sqlx::query_scalar!(r#"SELECT pg_try_advisory_xact_lock($1) AS "locked!""#, LOCK)
                .fetch_one(&mut transaction)
                .await?;
        if !locked || !outgrown(&mut transaction).await?.contains(&table) {
            transaction.rollback().await?;
            return Ok(false);
        }
        sqlx::raw_sql(SAMPLE).execute(&mut transaction).await?;
        let analyze = AssertSqlSafe(format!("ANALYZE {table}"));
        sqlx::raw_sql(analyze).execute(&mut transaction).await?;
        transaction.commit().await?;
        Ok(true)
    }
}

async fn outgrown(connection: impl PgExecutor<'_>) -> Result<Vec<&'static str>, sqlx::Error> {
    let names = TABLES.map(str::to_owned);
    let found = sqlx::query_scalar!(
        r#"
        SELECT name AS "name!"
        FROM unnest($1::text[]) AS name
        JOIN pg_class ON pg_class.oid = to_regclass(name)
        WHERE pg_has_role(relowner, 'USAGE')
            AND pg_stat_get_live_tuples(pg_class.oid) > 100 + 2 * greatest(reltuples, 0)
        "#,
        &names,
    )
    .fetch_all(connection)
    .await?;
    Ok(TABLES.into_iter().filter(|table| found.iter().any(|name| name == table)).collect())
}
