//! The settings of a store.

use std::time::Duration;

use crate::{
    servers::Servers,
    url::{DatabaseReadUrl, DatabaseUrl, NotADatabaseUrl},
};

/// How long a statement outside of a transaction waits in the database for a lock before it is tried again. Usually
/// this is the lock of a whole table, because most statements skip locked rows.
const LOCK_WAIT: Duration = Duration::from_millis(20);

/// How to reach PostgreSQL, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// Servers, database, user and TLS, as parsed from `DATABASE_URL`.
    pub connect: Servers,
    /// Connections for reads, product changes and workers.
    pub pool_size: u32,
    /// Separate connections for admission, so that no read waits behind an order. Opened when they are first needed.
    pub admission_connections: u32,
    /// The longest wait for a free connection, or for a new one.
    pub acquire_timeout: Duration,
    /// The longest wait for a row lock: PostgreSQL's `lock_timeout`. A batch of admission waits for much
    /// less, see `hand_over`.
    pub lock_timeout: Duration,
    /// PostgreSQL's `statement_timeout`.
    pub statement_timeout: Duration,
    /// The standbys for reads, as parsed from `DATABASE_READ_URL`.
    pub read_replicas: Option<DatabaseReadUrl>,
    /// Connections to each standby.
    pub read_replica_connections: u32,
    /// The longest time that a read waits for the primary's position and for a standby, before the primary serves it.
    pub read_replica_wait: Duration,
    /// The name of the sessions in PostgreSQL (`pg_stat_activity`). A restore waits until the sessions that place or
    /// fulfil orders, which are named `holdfast`, have ended.
    pub application_name: &'static str,
}

impl StoreSettings {
    /// Settings for the database at `url`, with defaults for the rest.
    ///
    /// # Errors
    /// The URL is invalid.
    pub fn new(url: &str) -> Result<Self, NotADatabaseUrl> {
        url.parse::<DatabaseUrl>().map(|url| url.settings())
    }

    /// The location of the database for messages: servers, ports and name, and nothing secret.
    pub fn place(&self) -> String {
        self.connect.place()
    }

    fn with_defaults(connect: Servers) -> Self {
        Self {
            connect,
            pool_size: 8,
            admission_connections: 4,
            acquire_timeout: Duration::from_secs(2),
            lock_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(5),
            read_replicas: None,
            read_replica_connections: 8,
            read_replica_wait: Duration::from_millis(100),
            application_name: "holdfast",
        }
    }

    /// The longest wait for an answer: a little longer than the server's own limit, which a hung server does not
    /// enforce.
    pub(crate) fn statement_limit(&self) -> Duration {
        self.statement_timeout + Duration::from_secs(1)
    }

    /// For everything but admission.
    pub(crate) fn main_session(&self) -> Servers {
        self.reading_session(&self.connect).options(&[
            // Sessions with this setting write the stock ledger themselves: see `migrations/0002`.
            ("holdfast.writes_ledger", "on"),
        ])
    }

    /// For reads, on these servers.
    pub(crate) fn reading_session(&self, servers: &Servers) -> Servers {
        let lock_wait = self.lock_timeout.min(LOCK_WAIT).as_millis();
        // Transactions set their own.
        self.session_on(servers).options(&[("lock_timeout", format!("{lock_wait}ms"))])
    }

    pub(crate) fn session(&self) -> Servers {
        self.session_on(&self.connect)
    }

    fn session_on(&self, servers: &Servers) -> Servers {
        let millis = |duration: Duration| format!("{}ms", duration.as_millis());
        servers.clone().application_name(self.application_name).options(&[
            ("lock_timeout", millis(self.lock_timeout)),
            ("statement_timeout", millis(self.statement_timeout)),
            // A client that dies within a transaction must not keep a hot row locked for hours.
            ("idle_in_transaction_session_timeout", millis(self.statement_timeout * 2)),
            // All statements here read a few rows along an index and stop. On a table without good statistics, for
            // example when a flash sale has just begun, the planner would prefer to collect all rows of a product in a
            // bitmap and sort them, or to read the whole table.
            ("enable_bitmapscan", "off".to_owned()),
            ("enable_seqscan", "off".to_owned()),
            ("jit", "off".to_owned()),
        ])
    }
}

impl DatabaseUrl {
    /// The store's settings for it, with defaults for the rest.
    pub fn settings(&self) -> StoreSettings {
        StoreSettings::with_defaults(self.servers().clone())
    }
}
