//! Admission of one replica with real PostgreSQL and Redis, without HTTP.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use holdfast_admission::{
    AcceptedHold, AcceptedOrder, Admission, AdmissionMetrics, AdmissionSettings, CancelOrder,
    HoldDecision, HoldStock, OrderDecision, PlaceOrder, Refusal,
};
use holdfast_cache::{Cache, CacheSettings, Entry};
use holdfast_domain::{
    HoldId, Lines, Money, OrderId, OrderStatus, Product, ProductDraft, ProductId, ProductName,
    Quantity, RequestedLine, Shortfall, Stock,
};
use holdfast_queue::{Queue, QueueSettings};
use holdfast_sandbox::{Redis, RedisOptions, shared_postgres};
use holdfast_store::{Batch, LockMode, Store, StoreSettings, WantedRows};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::task::JoinHandle;

/// A product as the tests cache it: its version and its stock.
#[derive(Clone, Copy, Debug)]
pub struct Cached {
    version: i64,
    stock: i64,
}

impl From<Product> for Cached {
    fn from(product: Product) -> Self {
        Self { version: product.version, stock: product.stock.units() }
    }
}

impl Entry for Cached {
    fn version(&self) -> i64 {
        self.version
    }

    fn stock(&self) -> i64 {
        self.stock
    }

    fn set_stock(&mut self, version: i64, stock: i64) {
        *self = Self { version, stock };
    }

    fn encode(&self) -> Bytes {
        self.stock.to_string().into()
    }

    fn decode(version: i64, body: &Bytes) -> Option<Self> {
        let stock = std::str::from_utf8(body).ok()?.parse().ok()?;
        Some(Self { version, stock })
    }
}

pub struct Replica {
    pub admission: Admission<Cached>,
    pub metrics: Arc<AdmissionMetrics>,
    pub registry: holdfast_telemetry::Registry,
    pub store: Store,
    pub cache: Cache<Cached>,
    _redis: Redis,
}

/// The test's own database, with the schema.
pub async fn database() -> String {
    let migrate = async |url: String| {
        let store = Store::connect(&StoreSettings::new(&url)?);
        store.migrate().await?;
        store.close().await;
        Ok(())
    };
    let postgres = shared_postgres().await.unwrap();
    postgres.create_database_from("migrated", migrate).await.unwrap()
}

/// The limits are longer than a test, so requests for locked rows wait until its end.
pub fn patient() -> AdmissionSettings {
    let wait = Duration::from_mins(1);
    AdmissionSettings { wait_max: wait, lock_wait_max: wait, ..AdmissionSettings::default() }
}

/// No request waits for so long, even on a busy machine.
pub fn serving() -> AdmissionSettings {
    let wait = Duration::from_secs(20);
    AdmissionSettings { wait_max: wait, lock_wait_max: wait, ..AdmissionSettings::default() }
}

pub async fn replica(settings: AdmissionSettings) -> Replica {
    replica_on(&database().await, settings).await
}

pub async fn replica_on(url: &str, settings: AdmissionSettings) -> Replica {
    let redis = Redis::start(RedisOptions::default()).await.unwrap();
    let store = Store::connect(&StoreSettings {
        lock_timeout: Duration::from_millis(500),
        ..StoreSettings::new(url).unwrap()
    });
    store.migrate().await.unwrap();
    // On a busy machine, a call may take longer than in production.
    let op_timeout = Duration::from_secs(1);
    let cache = CacheSettings { op_timeout, ..CacheSettings::new(redis.url()) };
    let cache = Cache::connect(cache).unwrap();
    let queue = Queue::connect(QueueSettings::new(redis.url())).unwrap();
    let registry = holdfast_telemetry::Registry::default();
    let metrics = Arc::new(AdmissionMetrics::unmeasured(&registry).unwrap());
    let admission =
        Admission::open(settings, store.clone(), cache.clone(), queue, Arc::clone(&metrics));
    Replica { admission, metrics, registry, store, cache, _redis: redis }
}

impl Replica {
    pub async fn product(&self, stock: i64) -> ProductId {
        let new = ProductDraft {
            name: ProductName::new("Lamp".to_owned()).unwrap(),
            description: None,
            price: Money::from_minor(100).unwrap(),
            stock: Stock::new(stock).unwrap(),
        };
        self.store.create_product(&new).await.unwrap().id
    }

    pub async fn place(&self, product_id: ProductId, units: i64) -> Result<AcceptedOrder, Refusal> {
        place(&self.admission, one(product_id, units)).await
    }

    /// Places an order in its own task. Returns when the order is in its lane.
    pub async fn begin(
        &self,
        product_id: ProductId,
        units: i64,
    ) -> JoinHandle<Result<AcceptedOrder, Refusal>> {
        let admission = self.admission.clone();
        let placing = tokio::spawn(async move { place(&admission, one(product_id, units)).await });
        // There is one thread, so the task runs until it waits before this continues.
        tokio::task::yield_now().await;
        placing
    }

    pub async fn orders(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM orders")
            .fetch_one(self.store.pool())
            .await
            .unwrap()
    }

    pub async fn stock(&self, id: ProductId) -> i64 {
        self.store.product(id).await.unwrap().unwrap().stock.units()
    }

    pub async fn until(&self, what: &str, condition: impl AsyncFnMut() -> bool) {
        holdfast_sandbox::until(what, condition).await;
    }

    /// Waits until requests wait for this many locked rows.
    pub async fn apart(&self, rows: i64) {
        self.until("requests wait for rows", async || self.metrics.own_lanes.get() == rows).await;
    }
}

/// Another session in a transaction, such as a report or a database client.
pub struct ForeignSession(PgConnection);

impl ForeignSession {
    /// Executes a statement in a transaction that stays open.
    pub async fn begin(url: &str, statement: &str) -> Self {
        let mut connection = url.parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
        let sql = format!("BEGIN; {statement}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        Self(connection)
    }

    /// Executes one more statement, and commits.
    pub async fn commit(&mut self, statement: &str) {
        let sql = format!("{statement}; COMMIT");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut self.0).await.unwrap();
    }

    /// Ends the transaction.
    pub async fn rollback(mut self) {
        sqlx::raw_sql("ROLLBACK").execute(&mut self.0).await.unwrap();
        self.0.close().await.unwrap();
    }
}

/// An order of these products and units.
pub fn order(products: &[(ProductId, i64)]) -> PlaceOrder {
    PlaceOrder { lines: lines(products), ..PlaceOrder::default() }
}

fn lines(products: &[(ProductId, i64)]) -> Lines {
    let line = |&(product_id, units): &(ProductId, i64)| {
        RequestedLine::from_stock(product_id, Quantity::new(units, 10_000).unwrap())
    };
    products.iter().map(line).collect()
}

pub fn one(product_id: ProductId, units: i64) -> PlaceOrder {
    order(&[(product_id, units)])
}

/// An order of units from a hold.
pub fn from_hold(product_id: ProductId, hold: HoldId, units: i64) -> PlaceOrder {
    let mut order = one(product_id, units);
    order.lines[0].hold = Some(hold);
    order
}

/// A hold of these units for five minutes.
pub fn holding(product_id: ProductId, units: i64) -> HoldStock {
    HoldStock {
        product_id,
        quantity: Quantity::new(units, 1000).unwrap(),
        expected_price: None,
        lasts: Duration::from_mins(5),
        customer_ref: None,
        key: None,
    }
}

/// The cancellation of an order of one unit of this product.
pub fn cancellation(order_id: OrderId, from: OrderStatus, product_id: ProductId) -> CancelOrder {
    let lines = lines(&[(product_id, 1)]);
    CancelOrder { order_id, from, settled: false, lines, ordered_by: None }
}

pub async fn place(
    admission: &Admission<Cached>,
    order: PlaceOrder,
) -> Result<AcceptedOrder, Refusal> {
    match admission.place_order(order).await? {
        OrderDecision::Accepted(order) => Ok(order),
        OrderDecision::Repeated(_) => panic!("a repeat"),
    }
}

pub async fn hold(replica: &Replica, hold: HoldStock) -> AcceptedHold {
    match replica.admission.hold(hold).await.unwrap() {
        HoldDecision::Accepted(hold) => hold,
        HoldDecision::Repeated(_) => panic!("a repeat"),
    }
}

pub fn not_enough(product_id: ProductId, left: i64) -> Refusal {
    Refusal::Short(Shortfall::NotEnough { product_id, left: Stock::new(left).unwrap() })
}

/// Locks rows like another replica, for as long as the test takes.
pub async fn lock(store: &Store, ids: &[ProductId]) -> Batch {
    let database: String =
        sqlx::query_scalar("SELECT current_database()").fetch_one(store.pool()).await.unwrap();
    let url = shared_postgres().await.unwrap().database_url(&database);
    let store = Store::connect(&StoreSettings {
        // The server ends a session that is idle in its transaction for longer than this.
        lock_timeout: Duration::from_mins(1),
        ..StoreSettings::new(&url).unwrap()
    });
    let wanted = WantedRows { products: ids.iter().copied().collect(), ..WantedRows::default() };
    store.lock_batch(&wanted, LockMode::Wait).await.unwrap()
}
