//! The connections of a set: those that are idle, and how new ones are made.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sqlx::{Executor as _, PgConnection};
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout_at},
};

use super::{generations::Generations, identity::identity};
use crate::servers::Servers;

/// A connection older than this is replaced, so that a balancer's change is noticed.
const LIFETIME: Duration = Duration::from_mins(30);
/// A connection that was idle for longer is closed.
const IDLE_MAX: Duration = Duration::from_mins(5);
/// Between two attempts to connect.
pub(super) const RECONNECT: Duration = Duration::from_millis(50);

/// How a set makes its sessions, and how long it waits.
#[derive(Clone, Debug)]
pub(crate) struct SetOptions {
    /// Servers, database, user, and the session's settings.
    pub connect: Servers,
    /// What each session executes when it is made.
    pub prepare: Option<&'static str>,
    /// The most sessions at once.
    pub size: u32,
    /// The longest wait for a free session, or for a new one.
    pub acquire_timeout: Duration,
    /// The longest wait for the answer to a statement: the server's own limit and a little, for a server that
    /// hangs does not keep its limits.
    pub limit: Duration,
    /// Whether a server that cannot be reached is tried again until `acquire_timeout` is over.
    pub patient: bool,
}

#[derive(Debug)]
pub(super) struct Set {
    pub options: SetOptions,
    pub size: usize,
    pub free: Arc<Semaphore>,
    // The one used last is taken first: its session's caches are warm.
    pub idle: Mutex<VecDeque<Connection>>,
    pub generations: Arc<Generations>,
}

/// A connection to the server.
#[derive(Debug)]
pub(super) struct Connection {
    pub inner: PgConnection,
    /// Counts the connections of a store in the order in which they were made.
    pub number: u64,
    connected: Instant,
    /// Of [`Servers`].
    pub server: usize,
    pub used: Instant,
}

impl Set {
    pub fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock();
        while let Some(connection) = idle.pop_back() {
            if self.is_good(&connection) {
                return Some(connection);
            }
        }
        None
    }

    fn is_good(&self, connection: &Connection) -> bool {
        connection.connected.elapsed() < LIFETIME
            && !self.generations.is_retired(connection.number)
            && self.options.connect.is_current(connection.server)
    }

    /// Only for a connection outside of a transaction whose answers have been read.
    pub fn put_back(&self, mut connection: Connection) {
        if !self.is_good(&connection) || self.free.is_closed() {
            return;
        }
        connection.used = Instant::now();
        let mut idle = self.idle.lock();
        while idle.front().is_some_and(|oldest| oldest.used.elapsed() > IDLE_MAX) {
            idle.pop_front();
        }
        idle.push_back(connection);
    }

    pub(super) async fn connect(&self) -> Result<Connection, sqlx::Error> {
        let deadline = tokio::time::Instant::now() + self.options.acquire_timeout;
        loop {
            let attempt = timeout_at(deadline, self.try_connect()).await;
            match attempt {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => {
                    let left = deadline.saturating_duration_since(tokio::time::Instant::now());
                    if !self.options.patient || !is_passing(&error) || left <= RECONNECT {
                        return Err(error);
                    }
                    sleep(RECONNECT).await;
                }
                Err(_elapsed) => return Err(sqlx::Error::PoolTimedOut),
            }
        }
    }

    async fn try_connect(&self) -> Result<Connection, sqlx::Error> {
        // Before it is made: should the server change meanwhile, it counts as one from before.
        let number = self.generations.next();
        let (mut connection, server) = self.options.connect.connect().await?;
        if let Some(prepare) = self.options.prepare {
            connection.execute(prepare).await?;
        }
        if let Some(told) = self.generations.watcher() {
            told(&identity().persistent(false).fetch_one(&mut connection).await?);
        }
        let now = Instant::now();
        Ok(Connection { inner: connection, number, connected: now, server, used: now })
    }
}

/// Whether another attempt to connect may succeed a moment later.
fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        // The server starts or stops, or has no connection left.
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| code.starts_with("57P") || code == "53300")
        }
        _ => false,
    }
}
