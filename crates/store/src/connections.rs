//! The one way to use a connection.
//!
//! A [`Connections`] is a bounded set of connections. [`Connections::acquire`] waits for one, for a limited time, and
//! gives a [`Session`] on it. Statements run on it, or on a [`Transaction`] that has one, and each has a time limit
//! on this side. The session knows at each moment what it is in the middle of. Its connection goes back to the set when it
//! is dropped outside of a transaction with every answer read. Dropped at any other moment, it is cleaned in the
//! background first, see `session`: a caller that goes away costs no connection, and leaves nothing behind that
//! the next one could find itself in.
//!
//! sqlx's own pool and its transactions are not used: a call of theirs that is dropped at the wrong moment returns a
//! connection within a transaction, and all that is written on it later is lost. `clippy.toml` forbids them.

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

/// A connection that was idle for longer must answer before something is written on it.
const PROVE_AFTER: Duration = Duration::from_secs(1);

/// When an idle connection must answer before something is written on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Never: its caller finds out what became of a write that is not answered.
    None,
    /// If it was idle for longer than [`PROVE_AFTER`].
    AfterIdleTime,
    /// Always: the message of a server that has ended the session meanwhile would be taken for the answer to the write,
    /// which may be done or not then.
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

    /// A session for reading. Safe to cancel.
    ///
    /// # Errors
    /// None becomes free, or can be made, in time.
    pub async fn acquire(&self) -> Result<Session, sqlx::Error> {
        let permit = self.permit().await?;
        match self.0.take_idle() {
            Some(connection) => Ok(Session::new(connection, false, Arc::clone(&self.0), permit)),
            None => self.fresh(permit).await,
        }
    }

    /// A session for writing. One that was idle is asked first whether it is still there and takes writes, as `proof`
    /// says. Safe to cancel.
    ///
    /// # Errors
    /// None becomes free, or can be made, in time; or the server takes no writes, and was asked just now.
    pub async fn acquire_for_writing(&self, proof: Proof) -> Result<Session, sqlx::Error> {
        let mut session = self.take_for_writing(proof).await?;
        session.writes = true;
        Ok(session)
    }

    async fn take_for_writing(&self, proof: Proof) -> Result<Session, sqlx::Error> {
        let permit = self.permit().await?;
        if self.0.generations.is_read_only()? {
            // Only a new session can tell whether this has changed. It takes the place of an idle one.
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
        // The others are no better.
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

    /// Gives out no more sessions, waits for those in use for as long as a statement may take, and closes all.
    pub async fn close(&self) {
        let all = u32::try_from(self.size()).unwrap_or(u32::MAX);
        let back = timeout(self.0.options.limit, self.0.free.acquire_many(all)).await;
        self.0.free.close();
        drop(back);
        let idle = std::mem::take(&mut *self.0.idle.lock());
        for connection in idle {
            // What matters is that it is dropped.
            let _ = timeout(RECONNECT, sqlx::Connection::close(connection.inner)).await;
        }
    }
}

/// Asks the server. The simple protocol costs one round trip, also on a new connection.
async fn takes_writes(session: &mut Session) -> Result<bool, sqlx::Error> {
    let row = Message::alone(session).fetch_one("SHOW transaction_read_only").await?;
    Ok(row.try_get::<&str, _>(0)? == "off")
}

/// A connection outside of the sets, for what has no place in them: a migration, or a question whether the database
/// is there. Its statements have no limit but what their caller gives them.
pub(crate) async fn connect_alone(
    servers: &Servers,
    limit: Duration,
) -> Result<PgConnection, sqlx::Error> {
    let connecting = timeout(limit, servers.connect()).await;
    let timed_out = |_elapsed| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into()));
    let (connection, _server) = connecting.unwrap_or_else(timed_out)?;
    Ok(connection)
}

/// Waits for one of a bounded number of permits.
pub(crate) async fn permit(
    free: &Arc<Semaphore>,
    limit: Duration,
) -> Result<OwnedSemaphorePermit, sqlx::Error> {
    timeout(limit, Arc::clone(free).acquire_owned())
        .await
        .map_err(|_| sqlx::Error::PoolTimedOut)?
        .map_err(|_| sqlx::Error::PoolClosed)
}
