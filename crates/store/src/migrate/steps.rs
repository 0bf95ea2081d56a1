//! Runs the steps of [`released`](super::released) migrations.

use std::time::Duration;

use sqlx::migrate::Migration;

use super::{
    released::{MigrationStep, part},
    session::{MigrateError, MigrationChange, MigrationSession},
};

/// The number of products that get their opening entry in the ledger at a time.
const PRODUCTS_AT_ONCE: i64 = 1000;

impl MigrationSession {
    /// Runs a step of a released migration.
    pub(super) async fn step(
        &mut self,
        table: &str,
        step: &MigrationStep,
        migration: &Migration,
    ) -> Result<(), MigrateError> {
        match step {
            MigrationStep::Change { unless, sql } => self.change(table, unless, sql).await,
            MigrationStep::Parts { unless, parts } => {
                let text = migration.sql.as_str();
                let sql: Vec<_> = parts.iter().filter_map(|words| part(text, words)).collect();
                self.change(table, unless, &sql.join("\n")).await
            }
            MigrationStep::Validate { constraint } => {
                let what = format!("the check of {constraint}");
                self.set_lock_timeout(Duration::ZERO).await?;
                let sql = format!("ALTER TABLE {table} VALIDATE CONSTRAINT {constraint}");
                self.execute(&what, sql).await
            }
            MigrationStep::Index { name, on } => {
                let sql = format!("CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {on}");
                self.build(name, &sql, None).await
            }
            MigrationStep::OpeningEntries => self.write_opening_entries().await,
        }
    }

    /// Changes a table in one transaction, unless the query shows that this has been done.
    async fn change(
        &mut self,
        table: &str,
        unless: &'static str,
        sql: &str,
    ) -> Result<(), MigrateError> {
        if sqlx::query_scalar(unless).fetch_one(&mut self.connection).await? {
            return Ok(());
        }
        let what = format!("a change of the table {table}");
        self.with_locks(&what, MigrationChange::Sql(sql)).await
    }

    /// Writes an opening entry into the stock ledger for each product that has none.
    ///
    /// Changes of stock in the meantime write their own entries. The opening entry of a product comes before
    /// them. If a change takes the version of an opening entry at the same time, that entry is written in the
    /// next round.
    async fn write_opening_entries(&mut self) -> Result<(), MigrateError> {
        loop {
            let (mut after, mut left) = (i64::MIN, 0);
            loop {
                let done = sqlx::query!(
                    r#"
                    WITH looked_at AS MATERIALIZED (
                        SELECT id, version, stock
                        FROM products
                        WHERE id > $1
                        ORDER BY id
                        LIMIT $2
                    ), missing AS MATERIALIZED (
                        SELECT id,
                            coalesce(first.version - 1, looked_at.version) AS version,
                            coalesce(first.stock_before, looked_at.stock) AS stock
                        FROM looked_at
                        LEFT JOIN LATERAL (
                            SELECT version, stock_after - delta AS stock_before
                            FROM stock_ledger
                            WHERE product_id = looked_at.id
                            ORDER BY version
                            LIMIT 1
                        ) AS first ON true
                        WHERE NOT EXISTS (
                            SELECT FROM stock_ledger
                            WHERE product_id = looked_at.id AND reason = 'opening'
                        )
                    ), written AS (
                        INSERT INTO stock_ledger
                            (product_id, version, reason, delta, stock_after, held_after)
                        SELECT id, version, 'opening', stock, stock, 0
                        FROM missing
                        ON CONFLICT DO NOTHING
                        RETURNING 1
                    )
                    SELECT
                        (SELECT max(id) FROM looked_at) AS last,
                        (SELECT count(*) FROM missing) - (SELECT count(*) FROM written) AS "left!"
                    "#,
                    after,
                    PRODUCTS_AT_ONCE,
                )
                .fetch_one(&mut self.connection)
                .await?;
                left += done.left;
                let Some(last) = done.last else { break };
                after = last;
            }
            if left == 0 {
                return Ok(());
            }
        }
    }
}
