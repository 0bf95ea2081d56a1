//! Whether the database answers and takes writes, asked on a connection of its own: load on the others says nothing
//! of it.

use std::{io, sync::Arc, time::Duration};

use sqlx::PgConnection;
use tokio::time::timeout;

use crate::{
    connections::{Generations, connect_alone},
    error::StoreError,
    servers::Servers,
    store::Store,
};

/// Asks the database whether it is there. One connection, made when it is needed.
#[derive(Debug)]
pub struct Probe {
    connect: Servers,
    connection: Option<PgConnection>,
    generations: Arc<Generations>,
}

/// What the database answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseState {
    /// It takes reads and writes.
    Whole,
    /// It takes reads only: it is a standby, or was told to take no writes.
    ReadOnly,
}

impl Store {
    /// A probe of this database.
    pub fn probe(&self) -> Probe {
        let connect = self.settings.connect.clone().application_name("holdfast-probe");
        let generations = Arc::clone(&self.generations);
        Probe { connect, connection: None, generations }
    }
}

impl Probe {
    /// One question, and a new connection before it if there is none; together no longer than `limit`.
    /// Cancelled, it is as if it had failed. A connection that takes no writes is replaced: what a new one says counts.
    /// Should that one take writes, no connection of the store from before is used any more.
    ///
    /// # Errors
    /// The database is not there, has no connection left, or does not answer in time.
    pub async fn ask(&mut self, limit: Duration) -> Result<DatabaseState, StoreError> {
        let before = self.connection.take();
        let asking = async {
            let mut was_read_only = false;
            if let Some(mut connection) = before {
                if takes_writes(&mut connection).await? {
                    return Ok((Some(connection), DatabaseState::Whole));
                }
                was_read_only = true;
            }
            let mut connection = connect_alone(&self.connect, limit).await?;
            if !takes_writes(&mut connection).await? {
                // The next question is for a new one as well.
                return Ok((None, DatabaseState::ReadOnly));
            }
            if was_read_only {
                self.generations.retire_all();
            }
            Ok::<_, sqlx::Error>((Some(connection), DatabaseState::Whole))
        };
        let timed_out = |_| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into()));
        let (connection, condition) = timeout(limit, asking).await.unwrap_or_else(timed_out)?;
        self.connection = connection;
        Ok(condition)
    }
}

async fn takes_writes(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    // A standby says "on" as well.
    let read_only: String =
        sqlx::query_scalar("SHOW transaction_read_only").fetch_one(connection).await?;
    Ok(read_only == "off")
}
