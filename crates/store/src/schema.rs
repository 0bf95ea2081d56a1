//! Checks whether the database has the schema that this binary needs.

use std::{io, time::Duration};

use sqlx::Connection as _;

use crate::{connections::connect_alone, error::StoreError, migrate::migrator, store::Store};

/// The time limit for reading the version, including a new connection.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// The time limit for the check of a pooler at the start.
const POOLER_LIMIT: Duration = Duration::from_secs(2);

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
    /// The schema version could not be read.
    #[error("the schema version cannot be read")]
    Store(#[from] StoreError),
}

impl Store {
    /// The schema version that this binary contains and needs.
    pub fn schema_version() -> i64 {
        migrator().iter().map(|migration| migration.version).max().unwrap_or(0)
    }

    /// Checks whether connections have their own sessions and keep their settings. Through a pooler without this
    /// configuration, nothing would work reliably. If the database does not answer within two seconds, the check
    /// passes, because the database may start later. Safe to drop.
    ///
    /// # Errors
    /// [`StoreError::is_pooler`].
    pub async fn check_pooler(&self) -> Result<(), StoreError> {
        let connect = self.settings.connect.clone().application_name("holdfast-schema");
        let asking = async {
            let first = connect_alone(&connect, POOLER_LIMIT).await?;
            // The first connection stays open: a pooler that shares sessions gives the second one the same session.
            let second = connect_alone(&connect, POOLER_LIMIT).await?;
            let _ = tokio::join!(first.close(), second.close());
            Ok::<_, sqlx::Error>(())
        };
        match tokio::time::timeout(POOLER_LIMIT, asking).await {
            Ok(Err(error)) => {
                Some(StoreError::from(error)).filter(StoreError::is_pooler).map_or(Ok(()), Err)
            }
            _ => Ok(()),
        }
    }

    /// Checks whether the database has every migration that this binary needs. A newer schema is accepted, because
    /// migrations first expand the schema, and contract it one release later.
    ///
    /// # Errors
    /// The schema is too old, or the database does not answer.
    pub async fn check_schema(&self) -> Result<(), SchemaError> {
        let needed = Self::schema_version();
        // A connection of the pool is not used: the pool would try until its time limit, and then not know the
        // cause.
        let asking = async {
            let connect = self.settings.connect.clone().application_name("holdfast-schema");
            let mut connection = connect_alone(&connect, ASK_LIMIT).await?;
            let applied: Result<Option<i64>, sqlx::Error> =
                sqlx::query_scalar!("SELECT max(version) FROM _sqlx_migrations WHERE success")
                    .fetch_one(&mut connection)
                    .await;
            // The result is already known.
            let _ = connection.close().await;
            applied
        };
        let applied = tokio::time::timeout(ASK_LIMIT, asking)
            .await
            .unwrap_or_else(|_elapsed| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())));
        let found = match applied {
            Ok(version) => version.unwrap_or(0),
            // undefined_table: this database was never migrated.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => 0,
            Err(error) => return Err(StoreError::from(error).into()),
        };
        if found < needed { Err(SchemaError::Behind { found, needed }) } else { Ok(()) }
    }
}
