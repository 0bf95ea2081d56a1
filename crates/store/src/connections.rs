//! The only way to use a connection.
//!
//! A [`Connections`] is a bounded set of connections. [`Connections::acquire`] waits for a connection, for a limited
//! time, and returns a [`Session`] on it. Statements run on the session, or on a [`Transaction`] that uses it. Each has
//! a time limit on our side. The session always knows its state. If it is dropped outside of a transaction and with
//! every answer read, its connection goes back to the set. Otherwise, the session is first cleaned in the background
//! (see `session`). So a dropped call loses no connection, and the next caller never gets a connection in an open
//! transaction.
//!
//! sqlx's own pool and transactions are not used: if a call is dropped at the wrong moment, they return a connection
//! within a transaction, and all later writes on it are lost. `clippy.toml` forbids them.

mod execute;
mod generations;
mod identity;
mod replicated;
mod session;
mod set;
mod transaction;

use std::{io, sync::Arc, time::Duration};

use parking_lot::Mutex;
use sqlx::{Executor as _, PgConnection, Row as _};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

pub(crate) use execute::{Message, StatementItem, executor, first, misused};
pub(crate) use generations::Generations;
pub(crate) use identity::identity;
pub(crate) use session::Session;
pub(crate) use set::SetOptions;
pub(crate) use transaction::Transaction;

use set::{RECONNECT, Set};

use crate::servers::Servers;

/// If a connection was idle for longer than this, it must answer before it is used for a write.
const PROVE_AFTER: Duration = Duration::from_secs(1);

/// When an idle connection must answer before it is used for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Never, because the caller looks up the outcome of a write that was not answered.
    None,
    /// If it was idle for longer than [`PROVE_AFTER`].
    AfterIdleTime,
    /// Always. If the server has ended the session in the meantime, its message would be mistaken for the answer to the
    /// write, and the outcome of the write would be unknown.
    Always,
}

/// A bounded set of connections. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Connections(Arc<Set>);

impl Connections {
    pub fn new(options: SetOptions, generations: Arc<Generations>) -> Self {
        let size = options.size.max(1) as usize;
        Self(Arc::new(Set {
            options,
            size,
            free: Arc::new(Semaphore::new(size)),
            idle: Mutex::default(),
            generations,
        }))
    }

    pub fn size(&self) -> usize {
        self.0.size
    }

    pub fn in_use(&self) -> usize {
        self.size().saturating_sub(self.0.free.available_permits())
    }

    pub fn idle(&self) -> usize {
        self.0.idle.lock().len()
    }

    /// Replaces all existing connections when they are used next.
    pub fn retire_all(&self) {
        self.0.generations.retire_all();
    }

    /// A session for reading. Safe to cancel.
    ///
    /// # Errors
    /// No connection becomes free or can be opened in time.
    pub async fn acquire(&self) -> Result<Session, sqlx::Error> {
        let permit = self.permit().await?;
        match self.0.take_idle() {
            Some(connection) => Ok(Session::new(connection, false, Arc::clone(&self.0), permit)),
            None => self.fresh(permit).await,
        }
    }

    /// A session for writing. `proof` says when an idle session must first prove that it is alive and accepts writes.
    /// Safe to cancel.
    ///
    /// # Errors
    /// No session is available in time, or the server refused writes a moment ago.
    pub async fn acquire_for_writing(&self, proof: Proof) -> Result<Session, sqlx::Error> {
        let mut session = self.take_for_writing(proof).await?;
        session.writes = true;
        Ok(session)
    }

    async fn take_for_writing(&self, proof: Proof) -> Result<Session, sqlx::Error> {
        let permit = self.permit().await?;
        if self.0.generations.is_read_only()? {
            // Only a new session can show whether this has changed. It replaces an idle one.
            drop(self.0.take_idle());
            return self.fresh(permit).await;
        }
        let Some(connection) = self.0.take_idle() else { return self.fresh(permit).await };
        let proven = match proof {
            Proof::None => true,
            Proof::AfterIdleTime => connection.used.elapsed() < PROVE_AFTER,
            Proof::Always => false,
        };
        let mut session = Session::new(connection, false, Arc::clone(&self.0), permit);
        if proven {
            return Ok(session);
        }
        let answer = timeout(self.0.options.acquire_timeout, takes_writes(&mut session)).await;
        if matches!(answer, Ok(Ok(true))) {
            return Ok(session);
        }
        // The other sessions have the same problem.
        self.0.generations.retire_all();
        let permit = match session.discard() {
            Some(permit) => permit,
            None => self.permit().await?,
        };
        self.fresh(permit).await
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, sqlx::Error> {
        permit(&self.0.free, self.0.options.acquire_timeout).await
    }

    async fn fresh(&self, permit: OwnedSemaphorePermit) -> Result<Session, sqlx::Error> {
        let connection = self.0.connect().await?;
        Ok(Session::new(connection, true, Arc::clone(&self.0), permit))
    }

    /// Provides no more sessions, waits for those in use for at most the time limit of a statement, and closes the idle
    /// connections. A session that is still in use closes its connection when it ends.
    pub async fn close(&self) {
        let all = u32::try_from(self.size()).unwrap_or(u32::MAX);
        let back = timeout(self.0.options.limit, self.0.free.acquire_many(all)).await;
        self.0.free.close();
        drop(back);
        let idle = std::mem::take(&mut *self.0.idle.lock());
        for connection in idle {
            // Dropping the connection closes it in any case.
            let _ = timeout(RECONNECT, sqlx::Connection::close(connection.inner)).await;
        }
    }
}

/// Asks the server whether the session accepts writes. The simple protocol needs only one round trip, also on a new
/// connection.
async fn takes_writes(session: &mut Session) -> Result<bool, sqlx::Error> {
    let row = Message::alone(session).fetch_one("SHOW transaction_read_only").await?;
    Ok(row.try_get::<&str, _>(0)? == "off")
}

/// A connection outside of the sets, for migrations, checks and diagnoses. Its statements have no time limit except the
/// caller's.
pub(crate) async fn connect_alone(
    servers: &Servers,
    limit: Duration,
) -> Result<PgConnection, sqlx::Error> {
    let connecting = timeout(limit, servers.connect()).await;
    let timed_out = |_elapsed| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into()));
    let (connection, _server) = connecting.unwrap_or_else(timed_out)?;
    Ok(connection)
}

/// Waits for one of a limited number of permits.
pub(crate) async fn permit(
    free: &Arc<Semaphore>,
    limit: Duration,
) -> Result<OwnedSemaphorePermit, sqlx::Error> {
    timeout(limit, Arc::clone(free).acquire_owned())
        .await
        .map_err(|_| sqlx::Error::PoolTimedOut)?
        .map_err(|_| sqlx::Error::PoolClosed)
}
