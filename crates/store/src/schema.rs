//! The schema: its migrations, and whether the database has the one this binary needs.

use std::{io, time::Duration};

use sqlx::{Connection as _, migrate::Migrator};

use crate::{Store, StoreError, connections::connect_alone};

/// How long the database may take to tell its version, a new connection included.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// How long a migration waits for its connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("../../migrations");
    // A schema newer than this binary's is fine: an old binary serves beside the next schema.
    migrator.set_ignore_missing(true);
    migrator
}

/// Why this binary cannot work with the database's schema yet.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A migration that this binary needs has not been run.
    #[error(
        "the database has schema version {found}, this binary needs {needed}: run `holdfast-api migrate`"
    )]
    Behind {
        /// The newest migration in the database; 0 for an empty one.
        found: i64,
        /// The newest migration of this binary.
        needed: i64,
    },
    /// The schema could not be looked at.
    #[error("the schema version could not be read")]
    Store(#[from] StoreError),
}

/// Why the migrations failed. Those that had succeeded stay.
#[derive(Debug, thiserror::Error)]
#[error("the database could not be migrated")]
pub struct MigrateError(#[from] sqlx::migrate::MigrateError);

impl Store {
    /// The schema version that this binary brings and needs.
    pub fn schema_version() -> i64 {
        migrator().iter().map(|migration| migration.version).max().unwrap_or(0)
    }

    /// Runs the migrations that the database does not have yet. Two at once are safe: the second
    /// waits on an advisory lock. One that was interrupted goes on where it stopped.
    ///
    /// # Errors
    /// The database cannot be reached, or a migration fails.
    pub async fn migrate(&self) -> Result<(), MigrateError> {
        // A connection of its own, without the timeouts of ordinary work: building an index on a
        // large table takes as long as it takes.
        let options = self.settings.connect.clone().application_name("holdfast-migrate");
        let mut connection = connect_alone(&options, CONNECT_LIMIT)
            .await
            .map_err(sqlx::migrate::MigrateError::from)?;
        migrator().run(&mut connection).await?;
        connection.close().await.map_err(sqlx::migrate::MigrateError::from)?;
        Ok(())
    }

    /// Whether the database has every migration that this binary needs. One that is ahead is
    /// fine: migrations expand first and contract a release later.
    ///
    /// # Errors
    /// A schema that is behind, or a database that cannot be asked.
    pub async fn check_schema(&self) -> Result<(), SchemaError> {
        let needed = Self::schema_version();
        // Not of the pool, which tries until its time is over and then knows no cause.
        let asking = async {
            let connect = self.settings.connect.clone().application_name("holdfast-schema");
            let mut connection = connect_alone(&connect, ASK_LIMIT).await?;
            let applied: Result<Option<i64>, sqlx::Error> =
                sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
                    .fetch_one(&mut connection)
                    .await;
            // What matters has been said.
            let _ = connection.close().await;
            applied
        };
        let applied = tokio::time::timeout(ASK_LIMIT, asking)
            .await
            .unwrap_or_else(|_elapsed| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())));
        let found = match applied {
            Ok(version) => version.unwrap_or(0),
            // undefined_table: nobody has ever migrated this database.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => 0,
            Err(error) => return Err(StoreError::from(error).into()),
        };
        if found < needed { Err(SchemaError::Behind { found, needed }) } else { Ok(()) }
    }
}
