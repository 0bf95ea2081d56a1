//! Running the migrations beside programs that serve.
//!
//! A statement that changes a table waits for every transaction that uses it, and everybody who comes later waits behind
//! that statement, readers included. So a migration waits for no lock longer than [`LOCK_TIMEOUT`]. If it does not get
//! one it is rolled back, and tried again later: until a long transaction has ended, everybody else goes on.
//!
//! An index is built with `CREATE INDEX CONCURRENTLY`, which waits for old transactions without holding up
//! anybody, by a file of its own that begins with `-- no-transaction`. What an interrupted build leaves behind
//! is dropped and built again. `tests/it/migrations.rs` has the rules for new files.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, Row as _, SqlSafeStr as _,
    migrate::{Migrate as _, Migration, Migrator},
    postgres::PgConnectOptions,
};

use crate::{Store, connections::connect_alone};

/// The longest wait for a lock that others wait behind.
const LOCK_TIMEOUT: Duration = Duration::from_millis(100);
/// The longest wait for another migration at a time. Nobody waits behind it.
const TURN_TIMEOUT: Duration = Duration::from_secs(1);
/// Before the second try; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often it is said what a migration waits for.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How long a migration waits for its connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// How long a migration tries to get its locks.
const LIMIT: Duration = Duration::from_mins(10);
/// Where sqlx keeps what has been applied.
const TABLE: &str = "_sqlx_migrations";

/// Indexes that released migrations build without `CONCURRENTLY`, with the migration's version. Where the table
/// has rows, they are built before the migration, which then leaves them out. Its checksum stays.
const BUILT_BEFORE: [(i64, &str, &str, &str); 4] = [
    (
        2,
        "products",
        "products_by_name",
        "products (lower(name) text_pattern_ops, id) WHERE retired_at IS NULL",
    ),
    (2, "products", "products_on_sale", "products (id) WHERE retired_at IS NULL"),
    (2, "orders", "orders_by_status", "orders (status, created_at, id)"),
    (5, "holds", "holds_by_order", "holds (order_id) WHERE order_id IS NOT NULL"),
];

/// Why the migrations failed. Those that had succeeded stay.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database cannot be reached, or refuses.
    #[error("the database could not be migrated")]
    Sqlx(#[from] sqlx::migrate::MigrateError),
    /// Other transactions kept what a migration must lock for too long.
    #[error(
        "{what} did not get its locks within {limit:?}: other transactions hold them; end those and run `holdfast-api migrate` again"
    )]
    Locked {
        /// Which step.
        what: String,
        /// How long it was tried.
        limit: Duration,
        /// What the database said at last.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
}

impl From<sqlx::Error> for MigrateError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sqlx(error.into())
    }
}

pub(crate) fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("../../migrations");
    // A schema newer than this binary's is fine: an old binary serves beside the next schema.
    migrator.set_ignore_missing(true);
    migrator
}

impl Store {
    /// Runs the migrations that the database does not have yet, beside programs that use it. Two at once
    /// are safe: the second waits for the first. One that was interrupted goes on where it stopped.
    ///
    /// # Errors
    /// The database cannot be reached, a migration fails, or other transactions keep what it must lock for ten
    /// minutes.
    pub async fn migrate(&self) -> Result<(), MigrateError> {
        self.migrate_within(LIMIT).await
    }

    /// The same, with another limit for getting the locks of each migration.
    ///
    /// # Errors
    /// As [`Self::migrate`].
    pub async fn migrate_within(&self, limit: Duration) -> Result<(), MigrateError> {
        // A connection of its own, without the timeouts of ordinary work: building an index on a
        // large table takes as long as it takes.
        let options = self.settings.connect.clone().application_name("holdfast-migrate");
        let connection = connect_alone(&options, CONNECT_LIMIT).await?;
        let mut run = Run { connection, options, limit };
        run.all(&migrator()).await?;
        run.connection.close().await?;
        Ok(())
    }
}

struct Run {
    connection: PgConnection,
    options: PgConnectOptions,
    limit: Duration,
}

impl Run {
    async fn all(&mut self, migrator: &Migrator) -> Result<(), MigrateError> {
        self.take_turn().await?;
        self.connection.ensure_migrations_table(TABLE).await?;
        if let Some(version) = self.connection.dirty_version(TABLE).await? {
            return Err(sqlx::migrate::MigrateError::Dirty(version).into());
        }
        let applied = self.connection.list_applied_migrations(TABLE).await?;
        for migration in migrator.iter() {
            match applied.iter().find(|applied| applied.version == migration.version) {
                Some(applied) if applied.checksum != migration.checksum => {
                    let version = migration.version;
                    return Err(sqlx::migrate::MigrateError::VersionMismatch(version).into());
                }
                Some(_) => {}
                None => self.apply(migration).await?,
            }
        }
        self.connection.unlock().await?;
        Ok(())
    }

    /// Waits until no other migration runs. It is over when that one's connection ends.
    async fn take_turn(&mut self) -> Result<(), MigrateError> {
        let begun = Instant::now();
        self.set_lock_timeout(TURN_TIMEOUT).await?;
        loop {
            match self.connection.lock().await {
                Ok(()) => return Ok(()),
                Err(source) if is_lock_timeout(&source) => {
                    let what = "the migration's turn";
                    if begun.elapsed() >= self.limit {
                        let (what, limit) = (what.to_owned(), self.limit);
                        return Err(MigrateError::Locked { what, limit, source });
                    }
                    tracing::info!("another migration of this database is running; waiting for it");
                    tell(&self.options, what).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Applies one migration, as soon as it gets its locks.
    async fn apply(&mut self, migration: &Migration) -> Result<(), MigrateError> {
        let mut migration = migration.clone();
        for (_, table, index, on) in BUILT_BEFORE.iter().filter(|it| it.0 == migration.version) {
            if self.has_rows(table).await? {
                let sql = format!("CREATE INDEX CONCURRENTLY IF NOT EXISTS {index} ON {on}");
                self.build(index, &sql, None).await?;
                let built = format!("CREATE INDEX {index} ON {on};");
                let rest = migration.sql.as_str().replace(&built, "");
                migration.sql = AssertSqlSafe(rest).into_sql_str();
            }
        }
        let what = format!("migration {} ({})", migration.version, migration.description);
        if migration.no_tx {
            let sql = migration.sql.as_str().to_owned();
            let index = concurrent_index(&sql).unwrap_or_default().to_owned();
            self.build(&index, &sql, Some(&migration)).await?;
        } else {
            self.set_lock_timeout(LOCK_TIMEOUT).await?;
            let begun = Instant::now();
            let mut pause = PAUSE_MIN;
            while let Err(source) = self.watched(&what, &migration).await {
                if !is_lock_timeout(&source) {
                    return Err(source.into());
                }
                if begun.elapsed() >= self.limit {
                    return Err(MigrateError::Locked { what, limit: self.limit, source });
                }
                tracing::info!(
                    retry_in_ms = pause.as_millis(),
                    "{what} did not get its locks at once and gave way; it is tried again"
                );
                tell(&self.options, &what).await;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
        tracing::info!("{what} is applied");
        Ok(())
    }

    /// Builds an index beside everybody, anew if an interrupted build has left it behind. Waits for
    /// transactions that are older than the build; nobody waits behind that.
    async fn build(
        &mut self,
        index: &str,
        sql: &str,
        migration: Option<&Migration>,
    ) -> Result<(), MigrateError> {
        self.set_lock_timeout(Duration::ZERO).await?;
        let left_behind: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid)",
        )
        .bind(index)
        .fetch_one(&mut self.connection)
        .await?;
        let what = format!("the build of the index {index}");
        if left_behind {
            tracing::info!("{index} was left behind by an interrupted build; it is built again");
            let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS {index}");
            watch(
                &self.options,
                &what,
                sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut self.connection),
            )
            .await?;
        }
        if let Some(migration) = migration {
            self.watched(&what, migration).await?;
        } else {
            let sql = AssertSqlSafe(sql.to_owned());
            watch(&self.options, &what, sqlx::raw_sql(sql).execute(&mut self.connection)).await?;
        }
        Ok(())
    }

    async fn watched(
        &mut self,
        what: &str,
        migration: &Migration,
    ) -> Result<(), sqlx::migrate::MigrateError> {
        let applying = self.connection.apply(TABLE, migration);
        watch(&self.options, what, applying).await.map(drop)
    }

    /// Whether the table is there and has rows.
    async fn has_rows(&mut self, table: &str) -> Result<bool, MigrateError> {
        let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
            .bind(table)
            .fetch_one(&mut self.connection)
            .await?;
        if !exists {
            return Ok(false);
        }
        // Only a name from above is put into the text.
        let sql = format!("SELECT EXISTS (SELECT FROM {table})");
        Ok(sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut self.connection).await?)
    }

    async fn set_lock_timeout(&mut self, timeout: Duration) -> Result<(), MigrateError> {
        let sql = format!("SET lock_timeout = {}", timeout.as_millis());
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection).await?;
        Ok(())
    }
}

/// Says from time to time what a step waits for, until it is over.
async fn watch<T>(options: &PgConnectOptions, what: &str, step: impl Future<Output = T>) -> T {
    let mut step = pin!(step);
    loop {
        match tokio::time::timeout(TELL_EVERY, &mut step).await {
            Ok(done) => return done,
            Err(_elapsed) => tell(options, what).await,
        }
    }
}

/// Says what goes on in the database: how far an index is, and the oldest transactions.
async fn tell(options: &PgConnectOptions, what: &str) {
    let looking = async {
        let mut connection = connect_alone(options, TELL_EVERY).await?;
        let rows = sqlx::query(
            "SELECT pid, application_name, coalesce(state, '') AS state, \
                 coalesce((SELECT phase || ' ' || blocks_done || '/' || blocks_total \
                     FROM pg_stat_progress_create_index AS progress \
                     WHERE progress.pid = activity.pid), '') AS progress, \
                 extract(epoch FROM now() - xact_start)::bigint AS age_s \
             FROM pg_stat_activity AS activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid() \
                 AND xact_start IS NOT NULL \
             ORDER BY xact_start LIMIT 3",
        )
        .fetch_all(&mut connection)
        .await?;
        for row in rows {
            tracing::info!(
                pid = row.try_get::<i32, _>("pid")?,
                application = row.try_get::<&str, _>("application_name")?,
                state = row.try_get::<&str, _>("state")?,
                age_s = row.try_get::<i64, _>("age_s")?,
                progress = row.try_get::<&str, _>("progress")?,
                "{what} goes on; one of the oldest transactions"
            );
        }
        connection.close().await
    };
    // It is for people only.
    if let Ok(Err(error)) = tokio::time::timeout(TELL_EVERY, looking).await {
        tracing::debug!(%error, "the oldest transactions could not be looked up");
    }
}

/// The name of the index that a file of a single `CREATE INDEX CONCURRENTLY IF NOT EXISTS` builds.
fn concurrent_index(sql: &str) -> Option<&str> {
    let (_, name) = sql.split_once("CONCURRENTLY IF NOT EXISTS ")?;
    name.split_whitespace().next()
}

fn is_lock_timeout(error: &sqlx::migrate::MigrateError) -> bool {
    use sqlx::migrate::MigrateError::{Execute, ExecuteMigration};

    let (Execute(error) | ExecuteMigration(error, _)) = error else { return false };
    // lock_not_available; deadlock_detected: with a program that locks in another order.
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| code == "55P03" || code == "40P01")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_that_are_built_before_their_migration_stand_in_it() {
        for (version, table, index, on) in BUILT_BEFORE {
            let migrator = migrator();
            let migration = migrator.iter().find(|it| it.version == version).unwrap();
            let statement = format!("CREATE INDEX {index} ON {on};");
            assert!(migration.sql.as_str().contains(&statement), "{statement}");
            assert!(on.starts_with(table));
        }
    }

    #[test]
    fn the_name_of_an_index_is_found_in_its_file() {
        let sql = "-- no-transaction\n-- Why.\nCREATE INDEX CONCURRENTLY IF NOT EXISTS some_name ON orders (id);\n";
        assert_eq!(concurrent_index(sql), Some("some_name"));
        assert_eq!(concurrent_index("CREATE INDEX some_name ON orders (id)"), None);
    }
}
