//! PostgreSQL: the only crate with SQL.
//!
//! What lives here: the connection pools and the migrations ([`Store`]), reading and changing
//! products ([`LockedProduct`]) with the ledger of their stock, reading orders and holds, pages of
//! all these ([`Page`]), admitting a batch of stock requests (`admission`), the claims of workers on
//! orders ([`fulfilment`]), replaying those that failed, and taking old ones out ([`Archive`]). Rows of products are locked
//! in `locks` and `admission::lock` and nowhere else, always in the order of the ids.
//!
//! What must not: HTTP, Redis, rules of the shop (those are in `holdfast-domain`; the constraints
//! in the schema are the second line of defence, not the first).
#![cfg_attr(test, allow(clippy::disallowed_methods))] // what a test reads, it has made

mod admission;
mod api_keys;
mod archive;
mod calls;
mod connections;
mod dead_letters;
mod error;
pub mod fulfilment;
mod hand_over;
mod history;
mod holds;
mod idempotency;
mod identity;
mod ledger;
mod locked_product;
mod locks;
mod metrics;
mod migrate;
mod order_rows;
mod orders;
mod page;
mod probe;
mod products;
mod rows;
mod sale_report;
mod sales;
mod schema;
mod sql;
mod time;
mod url;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use connections::{Connections, Generations, SetOptions};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::Semaphore;

pub use admission::{
    Batch, BatchOutcome, BatchToken, CancelledOrder, CommitError, EndedHold, ExpiredHold, LockMode,
    MissedRows, NewHold, NewOrder, Records, SeenRows, Stored, Wanted, Writing,
};
pub use api_keys::{ApiKey, LIVE_KEYS_MAX, NewApiKey};
pub use archive::{ARCHIVED_AT_ONCE_MAX, Archive, ArchivePlace, Cutoff, CutoffReason, OldOrder};
pub use dead_letters::{DeadLetterFilter, DeadLetterPage, Ordered, Replayed};
pub use error::StoreError;
pub use holds::HoldPage;
pub use idempotency::{IdempotencyKey, KeyedResult, ResultKind};
pub use locked_product::LockedProduct;
pub use metrics::StoreMetrics;
pub use migrate::MigrateError;
pub use orders::{OrderPage, OrderPlace};
pub use page::{LOOKED_AT_MAX, PAGE_BYTES_MAX, Page};
pub use probe::{Condition, Probe};
pub use products::{ProductPage, ProductPlace};
pub use sale_report::{LOCK_WAIT_BUCKETS, SaleReport, SaleSecond};
pub use sales::{PutSaleError, SALES_MAX, SALES_OF_PRODUCT_MAX};
pub use schema::SchemaError;
pub use url::{DatabaseUrl, NotADatabaseUrl};

/// How to reach PostgreSQL, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// Server, database, user and TLS, as parsed from `DATABASE_URL`.
    pub connect: PgConnectOptions,
    /// Connections for reads, product changes and workers.
    pub pool_size: u32,
    /// Connections of their own for admission, so that no read waits behind an order. Made when
    /// they are needed first.
    pub admission_connections: u32,
    /// The longest wait for a free connection, or for a new one.
    pub acquire_timeout: Duration,
    /// The longest wait for a row lock: PostgreSQL's `lock_timeout`. A batch of admission waits for much
    /// less, see `hand_over`.
    pub lock_timeout: Duration,
    /// PostgreSQL's `statement_timeout`.
    pub statement_timeout: Duration,
}

impl StoreSettings {
    /// Settings for the database at `url`, with defaults for the rest.
    ///
    /// # Errors
    /// A URL that is not understood.
    pub fn new(url: &str) -> Result<Self, NotADatabaseUrl> {
        url.parse::<DatabaseUrl>().map(|url| url.settings())
    }

    fn with_defaults(connect: PgConnectOptions) -> Self {
        Self {
            connect,
            pool_size: 8,
            admission_connections: 4,
            acquire_timeout: Duration::from_secs(2),
            lock_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(5),
        }
    }

    /// The longest wait for an answer: as long as the server may take, and a little for the way. One that hangs does
    /// not keep its own limit.
    fn statement_limit(&self) -> Duration {
        self.statement_timeout + Duration::from_secs(1)
    }
}

/// The database. Cheap to clone.
///
/// Reads are tried once more on another connection if theirs was dead, and writes that a read-only session has
/// refused on one that is not. No other method is retried by itself; where one may be tried again, its docs say
/// so. Each may be dropped at any await: nothing of it is left on a connection, and whatever was not
/// committed is rolled back. A write that is dropped may have happened.
#[derive(Clone, Debug)]
pub struct Store {
    main: Connections,
    admission: Connections,
    /// The right to use one of the main connections for a change that somebody asked for.
    changes: Arc<Semaphore>,
    generations: Arc<Generations>,
    tuple_ids: Arc<admission::TupleIdCache>,
    hand_over: hand_over::HandOver,
    settings: StoreSettings,
    /// Set when somebody wants to see them.
    waits: Arc<OnceLock<metrics::Waits>>,
    test_pool: Arc<OnceLock<PgPool>>,
}

impl Store {
    /// Makes the sets of connections. Connects to nothing yet: a database that is down is found by the first
    /// call, and is no reason not to start.
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
        let admission = admission::session(session(settings), settings.lock_timeout);
        let main = set(main_session(settings), None, settings.pool_size, true);
        Self {
            changes: Arc::new(Semaphore::new(main.size().div_ceil(2))),
            main,
            admission: set(
                admission,
                Some(admission::PREPARE),
                settings.admission_connections,
                false,
            ),
            generations,
            tuple_ids: Arc::default(),
            hand_over: hand_over::HandOver::default(),
            settings: settings.clone(),
            waits: Arc::default(),
            test_pool: Arc::default(),
        }
    }

    /// One round trip to the database.
    ///
    /// # Errors
    /// The database cannot be reached, or does not answer in time.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query_scalar!("SELECT 1 AS one").fetch_one(self.reads()).await?;
        Ok(())
    }

    /// A pool for tests, which look at the database and change it behind the store's back. Its connections are not
    /// those of the store. `clippy.toml` forbids it elsewhere.
    #[doc(hidden)]
    #[expect(clippy::disallowed_methods, reason = "for tests only")]
    pub fn pool(&self) -> &PgPool {
        self.test_pool.get_or_init(|| {
            PgPoolOptions::new()
                .max_connections(self.settings.pool_size.max(1))
                .acquire_timeout(self.settings.acquire_timeout)
                .connect_lazy_with(main_session(&self.settings))
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

fn main_session(settings: &StoreSettings) -> PgConnectOptions {
    session(settings).options([
        // Who changes stock here writes its ledger as well: see `migrations/0002`.
        ("holdfast.writes_ledger", "on"),
        // Everything here reads a few rows along an index and stops. On a table without good
        // statistics, that of a flash sale just begun, the planner would rather collect all
        // rows of a product in a bitmap and sort them, or read the whole table.
        ("enable_bitmapscan", "off"),
        ("enable_seqscan", "off"),
        ("jit", "off"),
    ])
}

fn session(settings: &StoreSettings) -> PgConnectOptions {
    let millis = |duration: Duration| format!("{}ms", duration.as_millis());
    settings.connect.clone().application_name("holdfast").options([
        ("lock_timeout", millis(settings.lock_timeout)),
        ("statement_timeout", millis(settings.statement_timeout)),
        // A client that dies in mid-transaction must not hold a hot row's lock for hours.
        ("idle_in_transaction_session_timeout", millis(settings.statement_timeout * 2)),
    ])
}
