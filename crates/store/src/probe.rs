//! Whether the database answers, asked on a connection of its own: load on the others says nothing of it.

use std::time::Duration;

use sqlx::{ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};

use crate::{Store, StoreError, admission::within};

/// Asks the database whether it is there. One connection, made when it is needed.
#[derive(Debug)]
pub struct Probe {
    connect: PgConnectOptions,
    connection: Option<PgConnection>,
}

impl Store {
    /// A probe of this database.
    pub fn probe(&self) -> Probe {
        let connect = self.settings.connect.clone().application_name("holdfast-probe");
        Probe { connect, connection: None }
    }
}

impl Probe {
    /// One question, and a new connection before it if there is none; together no longer than `limit`.
    /// Cancelled, it is as if it had failed.
    ///
    /// # Errors
    /// The database is not there, has no connection left, or does not answer in time.
    pub async fn ask(&mut self, limit: Duration) -> Result<(), StoreError> {
        let before = self.connection.take();
        let asking = async {
            let mut connection = match before {
                Some(connection) => connection,
                None => self.connect.connect().await?,
            };
            connection.ping().await?;
            Ok(connection)
        };
        self.connection = Some(within(limit, asking).await?);
        Ok(())
    }
}
