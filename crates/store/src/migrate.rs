//! Runs the migrations while programs serve requests.
//!
//! A statement that changes a table waits for every transaction that uses the table, and all later transactions,
//! including readers, wait behind that statement. So a migration waits for a lock only briefly
//! (`session::LOCK_TIMEOUT`). If it does not get the lock, it is rolled back and tried again later. So a long
//! transaction does not block all others.
//!
//! An index is built with `CREATE INDEX CONCURRENTLY`, which waits for old transactions without blocking others. It has
//! its own file, which begins with `-- no-transaction`. If a build is interrupted, the next run drops the unfinished
//! index and builds it again. `tests/it/migrations.rs` has the rules for new files; `released` handles files that are
//! older than the rules.

use std::time::{Duration, Instant};

use sqlx::{
    AssertSqlSafe, Connection as _, SqlSafeStr as _,
    migrate::{Migrate as _, Migration, Migrator},
};

use crate::{folded::lacking, store::Store};

mod released;
mod session;
mod steps;

pub use session::MigrateError;

use released::IN_STEPS;
use session::{MigrationChange, MigrationSession, TABLE, is_lock_timeout, tell};

/// The longest single wait for another migration. No other session waits behind it.
const TURN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a migration tries to get its locks.
const LIMIT: Duration = Duration::from_mins(10);

pub(crate) fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("../../migrations");
    // A schema that is newer than this binary is accepted, because an old binary works with the next schema.
    migrator.set_ignore_missing(true);
    migrator
}

impl Store {
    /// Runs the migrations that the database does not have yet, while programs use it. Two runs at the same time are
    /// safe: the second waits for the first. After an interruption, the next run continues where the previous one
    /// stopped. Returns the number of migrations.
    ///
    /// # Errors
    /// The database cannot be reached or lacks a required feature, a migration fails, or other transactions hold its
    /// locks for ten minutes.
    pub async fn migrate(&self) -> Result<usize, MigrateError> {
        self.migrate_within(LIMIT).await
    }

    /// Like [`Self::migrate`], with another limit for acquiring the locks of each migration.
    ///
    /// # Errors
    /// As [`Self::migrate`].
    pub async fn migrate_within(&self, limit: Duration) -> Result<usize, MigrateError> {
        // A separate connection without the usual timeouts, because building an index on a large table may take long.
        let options =
            self.settings.connect.clone().application_name("holdfast-migrate").options(&[
                // Do not log "… already exists, skipping".
                ("client_min_messages", "warning"),
            ]);
        let mut session = MigrationSession::open(options, limit).await?;
        let run = session.all(&migrator()).await?;
        session.connection.close().await?;
        Ok(run)
    }
}

impl MigrationSession {
    async fn all(&mut self, migrator: &Migrator) -> Result<usize, MigrateError> {
        if let Some(lack) = lacking(&mut self.connection).await? {
            return Err(MigrateError::Unsuitable(lack));
        }
        self.take_turn().await?;
        self.connection.ensure_migrations_table(TABLE).await?;
        if let Some(version) = self.connection.dirty_version(TABLE).await? {
            return Err(sqlx::migrate::MigrateError::Dirty(version).into());
        }
        let applied = self.connection.list_applied_migrations(TABLE).await?;
        let mut run = 0;
        for migration in migrator.iter() {
            match applied.iter().find(|applied| applied.version == migration.version) {
                Some(applied) if applied.checksum != migration.checksum => {
                    let version = migration.version;
                    return Err(sqlx::migrate::MigrateError::VersionMismatch(version).into());
                }
                Some(_) => {}
                None => {
                    self.apply(migration).await?;
                    run += 1;
                }
            }
        }
        self.connection.unlock().await?;
        Ok(run)
    }

    /// Waits until no other migration runs. Another migration has ended when its connection ends.
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
                    tell(&self.servers, what).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Applies one migration, as soon as it gets its locks.
    async fn apply(&mut self, migration: &Migration) -> Result<(), MigrateError> {
        let mut migration = migration.clone();
        for released in IN_STEPS.iter().filter(|it| it.version == migration.version) {
            if self.has_rows(released.table).await? {
                for step in released.steps {
                    self.step(released.table, step, &migration).await?;
                }
                let rest = released.rest(migration.sql.as_str());
                migration.sql = AssertSqlSafe(rest).into_sql_str();
            }
        }
        let what = format!("migration {} ({})", migration.version, migration.description);
        if migration.no_tx {
            let sql = migration.sql.as_str().to_owned();
            let index = concurrent_index(&sql).unwrap_or_default().to_owned();
            self.build(&index, &sql, Some(&migration)).await?;
        } else {
            self.with_locks(&what, MigrationChange::Migration(&migration)).await?;
        }
        tracing::info!("{what} is applied");
        Ok(())
    }
}

/// The name of the index that a file builds with a single `CREATE INDEX CONCURRENTLY IF NOT EXISTS`.
fn concurrent_index(sql: &str) -> Option<&str> {
    let (_, name) = sql.split_once("CONCURRENTLY IF NOT EXISTS ")?;
    name.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_index_is_found_in_its_file() {
        let sql = "-- no-transaction\n-- Why.\nCREATE INDEX CONCURRENTLY IF NOT EXISTS some_name ON orders (id);\n";
        assert_eq!(concurrent_index(sql), Some("some_name"));
        assert_eq!(concurrent_index("CREATE INDEX some_name ON orders (id)"), None);
    }
}
