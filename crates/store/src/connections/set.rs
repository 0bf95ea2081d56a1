//! The connections of a set: the idle ones, and how new ones are opened.

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
use crate::{servers::Servers, wal::WalPosition};

/// A connection older than this is replaced, so that changes of a load balancer take effect.
const LIFETIME: Duration = Duration::from_mins(30);
/// A connection that was idle for longer than this is closed when another one is put back.
const IDLE_MAX: Duration = Duration::from_mins(5);
/// The pause between two attempts to connect, and the time limit for closing a connection.
pub(super) const RECONNECT: Duration = Duration::from_millis(50);

/// How a set opens its sessions, and how long it waits.
#[derive(Clone, Debug)]
pub(crate) struct SetOptions {
    /// Servers, database, user, and the session's settings.
    pub connect: Servers,
    /// The statements that each new session executes.
    pub prepare: Option<&'static str>,
    /// The most sessions at once.
    pub size: u32,
    /// The longest wait for a free session, or for a new one.
    pub acquire_timeout: Duration,
    /// The longest wait for the answer to a statement: a little more than the server's own limit, which a
    /// hung server does not enforce.
    pub limit: Duration,
    /// Whether to try an unreachable server again until `acquire_timeout` has passed.
    pub patient: bool,
}

#[derive(Debug)]
pub(super) struct Set {
    pub options: SetOptions,
    pub size: usize,
    pub free: Arc<Semaphore>,
    // The connection that was used last is taken first, because the caches of its session are warm.
    pub idle: Mutex<VecDeque<Connection>>,
    pub generations: Arc<Generations>,
}

/// A connection to the server.
#[derive(Debug)]
pub(super) struct Connection {
    pub inner: PgConnection,
    /// The number of the connection within the store. Connections are numbered in the order in which they
    /// are opened.
    pub number: u64,
    connected: Instant,
    /// The number of its server in [`Servers`].
    pub server: usize,
    pub used: Instant,
    /// The last position in the log that the server has reported on it.
    pub seen: Option<WalPosition>,
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

    /// Only for a connection outside of a transaction whose answers have all been read.
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
        // The number is taken before the connection is opened: if the server changes in the meantime, the
        // connection counts as an old one.
        let number = self.generations.next();
        let (mut connection, server) = self.options.connect.connect().await?;
        if let Some(prepare) = self.options.prepare {
            connection.execute(prepare).await?;
        }
        if let Some(told) = self.generations.watcher() {
            told(&identity().persistent(false).fetch_one(&mut connection).await?);
        }
        let now = Instant::now();
        Ok(Connection { inner: connection, number, connected: now, server, used: now, seen: None })
    }
}

/// Whether another attempt to connect may succeed soon.
fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        // The server is starting or stopping, or has no connection left.
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| code.starts_with("57P") || code == "53300")
        }
        _ => false,
    }
}
