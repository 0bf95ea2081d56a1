//! The store: its connections, and what admission remembers between batches.

use std::sync::{Arc, OnceLock};

use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::sync::Semaphore;

use crate::{
    admission_session::admission_session,
    connections::{Connections, Generations, SetOptions},
    hand_over::HandOver,
    locked_rows::LockedRows,
    prepared::PREPARE,
    settings::StoreSettings,
    tuple_ids::TupleIdCache,
    waits::Waits,
};

/// The database. Cheap to clone.
///
/// Reads are tried once more on another connection if theirs was dead, and writes that a read-only session has
/// refused on one that is not. No other method is retried by itself; where one may be tried again, its docs say
/// so. Each may be dropped at any await: nothing of it is left on a connection, and whatever was not
/// committed is rolled back. A write that is dropped may have happened.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) main: Connections,
    pub(crate) admission: Connections,
    /// The right to use one of the main connections for a change of a caller.
    pub(crate) changes: Arc<Semaphore>,
    /// The right to try a statement again that has not got a lock.
    pub(crate) lock_tries: Arc<Semaphore>,
    pub(crate) generations: Arc<Generations>,
    pub(crate) tuple_ids: Arc<TupleIdCache>,
    pub(crate) hand_over: HandOver,
    pub(crate) locked_rows: LockedRows,
    pub(crate) settings: StoreSettings,
    /// Set when metrics are registered.
    pub(crate) waits: Arc<OnceLock<Waits>>,
    pub(crate) test_pool: Arc<OnceLock<PgPool>>,
}

impl Store {
    /// Makes the sets of connections. Does not connect yet: the first call finds out that a database is down, and a program
    /// can start without it.
    pub fn connect(settings: &StoreSettings) -> Self {
        let generations = Arc::<Generations>::default();
        let set = |connect, prepare, size, patient| {
            let options = SetOptions {
                connect,
                prepare,
                size,
                acquire_timeout: settings.acquire_timeout,
                limit: settings.statement_limit(),
                patient,
            };
            Connections::new(options, Arc::clone(&generations))
        };
        let admission = admission_session(settings.session(), settings.lock_timeout);
        let main = set(settings.main_session(), None, settings.pool_size, true);
        let changes = main.size().div_ceil(2);
        Self {
            changes: Arc::new(Semaphore::new(changes)),
            lock_tries: Arc::new(Semaphore::new((main.size() / 4).max(1))),
            locked_rows: LockedRows::new(changes),
            main,
            admission: set(admission, Some(PREPARE), settings.admission_connections, false),
            generations,
            tuple_ids: Arc::default(),
            hand_over: HandOver::default(),
            settings: settings.clone(),
            waits: Arc::default(),
            test_pool: Arc::default(),
        }
    }

    /// A pool for tests that read or change the database directly. Its connections are not those of the store.
    /// `clippy.toml` forbids it elsewhere.
    #[doc(hidden)]
    #[expect(clippy::disallowed_methods, reason = "for tests only")]
    pub fn pool(&self) -> &PgPool {
        self.test_pool.get_or_init(|| {
            PgPoolOptions::new()
                .max_connections(self.settings.pool_size.max(1))
                .acquire_timeout(self.settings.acquire_timeout)
                .connect_lazy_with(self.settings.main_session().first())
        })
    }

    /// How many connections admission may have at once.
    pub fn admission_connections(&self) -> usize {
        self.admission.size()
    }

    /// Closes all connections, when those in use have come back, or have had the time of a statement to do so.
    pub async fn close(&self) {
        tokio::join!(self.admission.close(), self.main.close());
        if let Some(pool) = self.test_pool.get() {
            pool.close().await;
        }
    }
}
