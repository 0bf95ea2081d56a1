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
    read_replicas::ReadReplicas,
    settings::StoreSettings,
    tuple_ids::TupleIdCache,
    waits::Waits,
};

/// The database. Cheap to clone.
///
/// A read is tried once more on another connection if its connection was dead. A write that a read-only session
/// refused is tried again on another session. No other method is retried automatically; the docs of a method say
/// whether it is safe to try again. Each method may be dropped at any await: no connection is left in a transaction,
/// and everything uncommitted is rolled back. A write that was dropped may have been committed.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) main: Connections,
    pub(crate) admission: Connections,
    /// Permits for changes of callers to use the main connections.
    pub(crate) changes: Arc<Semaphore>,
    /// Permits for another attempt of statements that did not get a lock.
    pub(crate) lock_tries: Arc<Semaphore>,
    pub(crate) generations: Arc<Generations>,
    pub(crate) tuple_ids: Arc<TupleIdCache>,
    pub(crate) hand_over: HandOver,
    pub(crate) locked_rows: LockedRows,
    pub(crate) replicas: Option<Arc<ReadReplicas>>,
    /// Whether reads go to the read replicas where that is possible.
    pub(crate) reads_replicas: bool,
    pub(crate) settings: StoreSettings,
    /// Set when metrics are registered.
    pub(crate) waits: Arc<OnceLock<Waits>>,
    pub(crate) test_pool: Arc<OnceLock<PgPool>>,
}

impl Store {
    /// Creates the sets of connections. Does not connect yet, so that a program can start while the database is down.
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
            replicas: ReadReplicas::new(settings, &generations),
            reads_replicas: false,
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

    /// The most connections of admission.
    pub fn admission_connections(&self) -> usize {
        self.admission.size()
    }

    /// Closes all connections. Waits for those in use until they have been returned, or the time limit of a statement
    /// has passed.
    pub async fn close(&self) {
        let replicas = async {
            if let Some(replicas) = &self.replicas {
                replicas.close().await;
            }
        };
        tokio::join!(self.admission.close(), self.main.close(), replicas);
        if let Some(pool) = self.test_pool.get() {
            pool.close().await;
        }
    }
}
