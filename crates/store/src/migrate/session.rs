//! The connection on which migrations run, and its waits.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection,
    migrate::{Migrate as _, Migration},
};

use crate::{connections::connect_alone, servers::Servers};

/// The longest wait for a lock while other sessions wait behind it.
const LOCK_TIMEOUT: Duration = Duration::from_millis(100);
/// The pause before the second attempt; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often the log says what a migration waits for.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How long a migration waits for its connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// The table in which sqlx records applied migrations.
pub(super) const TABLE: &str = "_sqlx_migrations";

/// Why the migrations failed. Completed migrations stay.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database cannot be reached, or refuses a statement.
    #[error("the database could not be migrated")]
    Sqlx(#[from] sqlx::migrate::MigrateError),
    /// The database lacks what case-insensitive names need. Nothing was changed.
    #[error(
        "names cannot be compared without regard to case: {0}; use a database with the encoding UTF8 on a PostgreSQL with ICU"
    )]
    Unsuitable(String),
    /// Other transactions held the locks of a migration for too long.
    #[error(
        "{what} did not get its locks within {limit:?}: other transactions hold them; end these transactions and run `holdfast-api migrate` again"
    )]
    Locked {
        /// Which step.
        what: String,
        /// The limit that was exceeded.
        limit: Duration,
        /// The last error of the database.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
}

impl MigrateError {
    /// Whether the database cannot be reached, as opposed to a failed statement.
    pub fn is_unavailable(&self) -> bool {
        let Self::Sqlx(sqlx::migrate::MigrateError::Execute(error)) = self else { return false };
        matches!(error, sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut)
    }
}

impl From<sqlx::Error> for MigrateError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sqlx(error.into())
    }
}

/// The connection of one run.
pub(super) struct MigrationSession {
    pub connection: PgConnection,
    pub servers: Servers,
    /// How long a migration tries to get its locks.
    pub limit: Duration,
}

/// A change in one transaction.
#[derive(Clone, Copy)]
pub(super) enum MigrationChange<'c> {
    Migration(&'c Migration),
    Sql(&'c str),
}

impl MigrationSession {
    pub(super) async fn open(servers: Servers, limit: Duration) -> Result<Self, MigrateError> {
        let connection = connect_alone(&servers, CONNECT_LIMIT).await?;
        Ok(Self { connection, servers, limit })
    }

    /// Makes a change without waiting long for a lock. If the change does not get its locks at once, it is rolled
    /// back and tried again.
    pub(super) async fn with_locks(
        &mut self,
        what: &str,
        change: MigrationChange<'_>,
    ) -> Result<(), MigrateError> {
        self.set_lock_timeout(LOCK_TIMEOUT).await?;
        let begun = Instant::now();
        let mut pause = PAUSE_MIN;
        while let Err(source) = self.try_change(what, change).await {
            if !is_lock_timeout(&source) {
                return Err(source.into());
            }
            if begun.elapsed() >= self.limit {
                let (what, limit) = (what.to_owned(), self.limit);
                return Err(MigrateError::Locked { what, limit, source });
            }
            tracing::info!(
                retry_in_ms = pause.as_millis(),
                "{what} did not get its locks immediately; it is tried again"
            );
            tell(&self.servers, what).await;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        Ok(())
    }

    async fn try_change(
        &mut self,
        what: &str,
        change: MigrationChange<'_>,
    ) -> Result<(), sqlx::migrate::MigrateError> {
        match change {
            MigrationChange::Migration(migration) => {
                let applying = self.connection.apply(TABLE, migration);
                watch(&self.servers, what, applying).await?;
            }
            MigrationChange::Sql(sql) => {
                let statement = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
                watch(&self.servers, what, statement.execute(&mut self.connection)).await?;
            }
        }
        Ok(())
    }

    /// Builds an index without blocking others. If an interrupted build has left the index behind, drops it
    /// first. Waits for older transactions; no other session waits behind it.
    pub(super) async fn build(
        &mut self,
        index: &str,
        sql: &str,
        migration: Option<&Migration>,
    ) -> Result<(), MigrateError> {
        self.set_lock_timeout(Duration::ZERO).await?;
        let left_behind = sqlx::query_scalar!(
            r#"
            SELECT EXISTS (
                SELECT FROM pg_index
                WHERE indexrelid = to_regclass($1) AND NOT indisvalid
            ) AS "left_behind!"
            "#,
            index,
        )
        .fetch_one(&mut self.connection)
        .await?;
        let what = format!("the build of the index {index}");
        if left_behind {
            tracing::info!("{index} was left behind by an interrupted build; it is built again");
            self.execute(&what, format!("DROP INDEX CONCURRENTLY IF EXISTS {index}")).await?;
        }
        match migration {
            Some(migration) => {
                let applying = self.connection.apply(TABLE, migration);
                watch(&self.servers, &what, applying).await?;
                Ok(())
            }
            None => self.execute(&what, sql.to_owned()).await,
        }
    }

    pub(super) async fn execute(&mut self, what: &str, sql: String) -> Result<(), MigrateError> {
        let statement = sqlx::raw_sql(AssertSqlSafe(sql));
        watch(&self.servers, what, statement.execute(&mut self.connection)).await?;
        Ok(())
    }

    /// Whether the table exists and has rows.
    pub(super) async fn has_rows(&mut self, table: &str) -> Result<bool, MigrateError> {
        let exists =
            sqlx::query_scalar!(r#"SELECT to_regclass($1) IS NOT NULL AS "exists!""#, table)
                .fetch_one(&mut self.connection)
                .await?;
        if !exists {
            return Ok(false);
        }
        // The name is a constant of `released`.
        let sql = format!("SELECT EXISTS (SELECT FROM {table})");
        Ok(sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut self.connection).await?)
    }

    pub(super) async fn set_lock_timeout(&mut self, timeout: Duration) -> Result<(), MigrateError> {
        let sql = format!("SET lock_timeout = {}", timeout.as_millis());
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection).await?;
        Ok(())
    }
}

/// Logs from time to time what a step waits for, until it ends.
pub(super) async fn watch<T>(servers: &Servers, what: &str, step: impl Future<Output = T>) -> T {
    let mut step = pin!(step);
    loop {
        match tokio::time::timeout(TELL_EVERY, &mut step).await {
            Ok(done) => return done,
            Err(_elapsed) => tell(servers, what).await,
        }
    }
}

/// Logs what happens in the database: the progress of an index, and the oldest transactions.
pub(super) async fn tell(servers: &Servers, what: &str) {
    let looking = async {
        let mut connection = connect_alone(servers, TELL_EVERY).await?;
        let rows = sqlx::query!(
            r#"
            SELECT pid AS "pid!",
                coalesce(application_name, '') AS "application!",
                coalesce(state, '') AS "state!",
                coalesce((
                    SELECT phase || ' ' || blocks_done || '/' || blocks_total
                    FROM pg_stat_progress_create_index AS progress
                    WHERE progress.pid = activity.pid
                ), '') AS "progress!",
                extract(epoch FROM now() - xact_start)::bigint AS "age_s!"
            FROM pg_stat_activity AS activity
            WHERE datname = current_database()
                AND pid <> pg_backend_pid()
                AND xact_start IS NOT NULL
            ORDER BY xact_start
            LIMIT 3
            "#
        )
        .fetch_all(&mut connection)
        .await?;
        for row in rows {
            tracing::info!(
                pid = row.pid,
                application = row.application,
                state = row.state,
                age_s = row.age_s,
                progress = row.progress,
                "{what} waits; one of the oldest transactions"
            );
        }
        connection.close().await
    };
    // This only informs users, so a failure does not matter.
    if let Ok(Err(error)) = tokio::time::timeout(TELL_EVERY, looking).await {
        tracing::debug!(%error, "the oldest transactions could not be looked up");
    }
}

pub(super) fn is_lock_timeout(error: &sqlx::migrate::MigrateError) -> bool {
    use sqlx::migrate::MigrateError::{Execute, ExecuteMigration};

    let (Execute(error) | ExecuteMigration(error, _)) = error else { return false };
    // lock_not_available, or deadlock_detected: a program locks in another order.
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| code == "55P03" || code == "40P01")
}
