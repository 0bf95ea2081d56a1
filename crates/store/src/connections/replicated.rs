//! Ensures that committed data is also on the synchronous standby, if there is one.
//!
//! PostgreSQL cannot undo a commit that waits for a standby. If a user cancels the wait or ends the session, only the
//! primary has the commit, and the server sends a warning before it answers as usual. A failover loses such a commit.
//! So after any warning, the session makes another commit. When a standby confirms that one, it has everything before
//! it, too.

use std::io;

use sqlx::Row as _;
use tokio::time::timeout;

use super::{
    execute::{Message, misused},
    session::{HeldConnection, Session},
};

/// This writes only to the WAL. A transaction that writes nothing does not wait for a standby.
const WRITE: &str = "BEGIN; SELECT pg_logical_emit_message(true, 'holdfast', ''::text)";

/// A commit may be only on the primary.
#[derive(Debug, thiserror::Error)]
#[error("the synchronous standby has not confirmed a commit")]
struct NotReplicated(#[source] sqlx::Error);

impl Session {
    /// Must be called after a commit. Costs nothing unless the server sent a warning with the commit. If it is dropped,
    /// it is unknown whether the standby has the commit.
    ///
    /// # Errors
    /// The standby does not confirm within the time limit of a statement. The commit may be kept or lost.
    pub async fn replicated(&mut self) -> Result<(), sqlx::Error> {
        if !self.warned {
            return Ok(());
        }
        tracing::warn!(
            "the database sent a warning with a commit, as it does when the wait for a standby is cancelled"
        );
        self.wait_for_standby().await
    }

    /// Waits until a synchronous standby has everything that was committed so far. One round trip if there is no
    /// standby.
    ///
    /// # Errors
    /// The standby does not confirm within the time limit of a statement, or the database is not available.
    pub async fn wait_for_standby(&mut self) -> Result<(), sqlx::Error> {
        let Some(HeldConnection { set, .. }) = &self.held else { return Err(misused()) };
        let limit = set.options.limit;
        // The change was made, so this must not look like the error of a statement.
        let not_replicated = |error| sqlx::Error::Io(io::Error::other(NotReplicated(error)));
        timeout(limit, self.commit_until_confirmed())
            .await
            .unwrap_or_else(|_elapsed| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())))
            .map_err(not_replicated)
    }

    async fn commit_until_confirmed(&mut self) -> Result<(), sqlx::Error> {
        let standby = "SELECT current_setting('synchronous_standby_names') <> ''";
        let row = sqlx::Executor::fetch_one(Message::alone(self), standby).await?;
        if !row.try_get::<bool, _>(0)? {
            return Ok(());
        }
        loop {
            sqlx::raw_sql(WRITE).execute(Message::begin(self)).await?;
            sqlx::raw_sql("COMMIT").execute(Message::commit(self)).await?;
            // This wait can be cancelled too.
            if !self.warned {
                return Ok(());
            }
        }
    }
}
