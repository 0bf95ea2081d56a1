//! Checks whether the database answers and accepts writes. The connection is separate, so that load on the others does
//! not affect the result.

use std::{io, sync::Arc, time::Duration};

use sqlx::PgConnection;
use tokio::time::timeout;

use crate::{
    connections::{Generations, connect_alone},
    error::StoreError,
    servers::Servers,
    store::Store,
};

/// Checks whether the database answers. It has one connection, which is opened when needed.
#[derive(Debug)]
pub struct Probe {
    connect: Servers,
    connection: Option<PgConnection>,
    generations: Arc<Generations>,
}

/// What the database answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseState {
    /// It accepts reads and writes.
    Whole,
    /// It accepts only reads: it is a standby, or a setting makes it read-only.
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
    /// Sends one query, on a new connection if there is none; both together take at most `limit`. A check that is
    /// cancelled or fails closes the connection. A read-only connection is replaced, because only a new one shows the
    /// present state of the server. If the new one accepts writes, older connections of the store are retired.
    ///
    /// # Errors
    /// The database cannot be reached, has no connection left, or does not answer in time.
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
                // The next query uses a new connection too.
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
    // A standby also reports "on".
    let read_only: String =
        sqlx::query_scalar("SHOW transaction_read_only").fetch_one(connection).await?;
    Ok(read_only == "off")
}
