//! The connections of admission.
//!
//! Not sqlx's pool: that one sends a ping when a connection comes back and hands it out again only
//! after the answer. Under load a lane wants its connection back at once, and a round trip less.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions as _, Executor as _, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::StoreError;

/// A connection older than this is replaced, so that a failover or a balancer's change is noticed.
const LIFETIME: Duration = Duration::from_mins(30);

/// A bounded set of connections, each prepared with the same statements.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    options: PgConnectOptions,
    prepare: &'static str,
    acquire_timeout: Duration,
    size: usize,
    free: Arc<Semaphore>,
    // The one used last is taken first: its session's caches are warm.
    idle: Arc<std::sync::Mutex<Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    connection: PgConnection,
    connected: Instant,
}

/// A connection in use. It goes back only through [`Lease::keep`]; in every other case, a
/// cancelled transaction for example, it is closed, which ends its transaction.
#[derive(Debug)]
pub(crate) struct Lease {
    pub connection: PgConnection,
    connected: Instant,
    idle: Arc<std::sync::Mutex<Vec<Idle>>>,
    _permit: OwnedSemaphorePermit,
}

impl Connections {
    pub fn new(
        options: PgConnectOptions,
        prepare: &'static str,
        size: u32,
        acquire_timeout: Duration,
    ) -> Self {
        let size = size.max(1) as usize;
        Self {
            options,
            prepare,
            acquire_timeout,
            size,
            free: Arc::new(Semaphore::new(size)),
            idle: Arc::default(),
        }
    }

    pub fn size(&self) -> usize {
        self.size
    }

    pub fn in_use(&self) -> usize {
        self.size.saturating_sub(self.free.available_permits())
    }

    pub fn idle(&self) -> usize {
        lock(&self.idle).len()
    }

    /// An idle connection, or a new one. Safe to cancel.
    pub async fn acquire(&self) -> Result<Lease, StoreError> {
        let busy = || StoreError::from(sqlx::Error::PoolTimedOut);
        let permit = timeout(self.acquire_timeout, Arc::clone(&self.free).acquire_owned())
            .await
            .map_err(|_| busy())?
            .map_err(|_| StoreError::from(sqlx::Error::PoolClosed))?;
        let idle = lock(&self.idle).pop();
        let Idle { connection, connected } = match idle {
            Some(idle) => idle,
            None => timeout(self.acquire_timeout, self.connect()).await.map_err(|_| busy())??,
        };
        Ok(Lease { connection, connected, idle: Arc::clone(&self.idle), _permit: permit })
    }

    async fn connect(&self) -> Result<Idle, StoreError> {
        let mut connection = self.options.connect().await?;
        connection.execute(self.prepare).await?;
        Ok(Idle { connection, connected: Instant::now() })
    }

    /// Forgets the idle connections: after one was found dead, the others likely are, too.
    pub fn forget_idle(&self) {
        lock(&self.idle).clear();
    }

    /// Lets nobody in any more, and closes what is idle.
    pub fn close(&self) {
        self.free.close();
        self.forget_idle();
    }
}

impl Lease {
    /// Gives the connection back for the next one. Only for a connection without a transaction.
    pub fn keep(self) {
        let Self { connection, connected, idle, _permit } = self;
        if connected.elapsed() < LIFETIME {
            lock(&idle).push(Idle { connection, connected });
        }
    }
}

/// Nobody panics while holding it; if somebody did, the connections would still be good.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
