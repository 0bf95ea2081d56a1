//! A connection in use.

use std::sync::Arc;

use sqlx::{Executor as _, Row as _};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::set::{Connection, Set};
use crate::wal::WalPosition;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionState {
    /// Outside of a transaction, and every answer has been read.
    Idle,
    /// In a transaction, between two statements.
    Open,
    /// The last answer has not been read to its end, or was an error.
    Unknown,
    /// The connection is lost, or can no longer be used.
    Dead,
}

/// A connection in use, with its permit.
///
/// It may be dropped at any moment. If it is idle then, its connection goes back to the set. Otherwise, a task reads
/// the remaining answers, rolls back, and returns the connection. The permit is held until then, so there are never
/// more connections than the set allows. A connection that does not become idle in time is closed.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent fact")]
pub(crate) struct Session {
    // Present until it is dropped.
    pub(super) held: Option<HeldConnection>,
    pub(super) state: SessionState,
    /// Whether a transaction was begun and has not certainly ended.
    pub(super) began: bool,
    /// Whether its connection is new.
    pub(super) fresh: bool,
    /// Whether it is used to write.
    pub(super) writes: bool,
    /// Whether the server sent a warning with the last commit: see `replicated`.
    pub(super) warned: bool,
}

#[derive(Debug)]
pub(super) struct HeldConnection {
    pub connection: Connection,
    pub set: Arc<Set>,
    permit: OwnedSemaphorePermit,
    /// A permit of another kind, which is held for the same time.
    also: Option<OwnedSemaphorePermit>,
}

impl Session {
    pub(super) fn new(
        connection: Connection,
        fresh: bool,
        set: Arc<Set>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let held = HeldConnection { connection, set, permit, also: None };
        Self {
            held: Some(held),
            state: SessionState::Idle,
            began: false,
            fresh,
            writes: false,
            warned: false,
        }
    }

    /// Also holds this permit until the session is clean.
    pub fn hold_also(&mut self, permit: OwnedSemaphorePermit) {
        if let Some(held) = &mut self.held {
            held.also = Some(permit);
        }
    }

    /// The last position in the log that the server has reported on this connection.
    pub fn seen(&self) -> Option<WalPosition> {
        self.held.as_ref().and_then(|held| held.connection.seen)
    }

    /// Remembers this position.
    pub fn saw(&mut self, position: WalPosition) {
        if let Some(held) = &mut self.held {
            held.connection.seen = Some(position);
        }
    }

    /// Whether the connection is lost, or can no longer be used.
    pub fn is_dead(&self) -> bool {
        self.state == SessionState::Dead
    }

    /// Closes the connection, and returns the permit.
    pub(super) fn discard(mut self) -> Option<OwnedSemaphorePermit> {
        self.held.take().map(|held| held.permit)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        match self.state {
            SessionState::Idle => held.put_back(),
            SessionState::Dead => {}
            SessionState::Open | SessionState::Unknown => {
                // Without a runtime, no task can wait for the answer, so the connection is closed.
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    runtime.spawn(held.clean(self.began));
                }
            }
        }
    }
}

impl HeldConnection {
    fn put_back(self) {
        self.set.put_back(self.connection);
    }

    /// Reads the remaining answers, and ends the transaction if there is one.
    async fn clean(mut self, began: bool) {
        let connection = &mut self.connection.inner;
        let cleaning = async {
            // Outside of a transaction, each statement is a transaction of its own, so the two times are the same.
            let alone = "SELECT now() = statement_timestamp()";
            let is_clean = !began
                && match connection.fetch_one(alone).await {
                    Ok(row) => row.try_get(0)?,
                    Err(sqlx::Error::Database(_)) => false,
                    Err(error) => return Err(error),
                };
            if !is_clean {
                connection.execute("ROLLBACK").await?;
            }
            Ok(())
        };
        match timeout(self.set.options.limit, cleaning).await {
            Ok(Ok(())) => self.put_back(),
            Ok(Err(error)) => tracing::debug!(%error, "a session could not be cleaned"),
            Err(_elapsed) => tracing::debug!("a session did not become idle and was closed"),
        }
    }
}
