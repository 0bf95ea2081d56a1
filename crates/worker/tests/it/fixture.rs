//! A shop with orders, its queue, and workers for it.

use std::time::Duration;

use holdfast_domain::{Order, OrderId, OrderStatus};
use holdfast_queue::{Job, Queue, QueueSettings};
pub use holdfast_sandbox::{PATIENCE, until};
use holdfast_sandbox::{
    Postgres, Process, ProcessOptions, Redis, RedisOptions, http_get, shared_postgres,
};
use holdfast_store::{Store, StoreSettings};
use holdfast_telemetry::Readiness;
use holdfast_worker::{Fulfilment, Worker, WorkerSettings};

use crate::receiver::SECRET;

pub struct WorkerFixture {
    pub store: Store,
    pub redis: Redis,
    pub queue: Queue,
    pub database_url: String,
}

impl WorkerFixture {
    pub async fn open() -> Self {
        Self::open_on(shared_postgres().await.unwrap()).await
    }

    /// A shop on a separate server, for tests that change the server.
    pub async fn open_on(server: &Postgres) -> Self {
        let database_url = server.create_database().await.unwrap();
        let store = Store::connect(&StoreSettings::new(&database_url).unwrap());
        store.migrate().await.unwrap();
        let redis = Redis::start(RedisOptions::default()).await.unwrap();
        let queue = queue(&redis);
        Self { store, redis, queue, database_url }
    }

    /// Executes a statement in the database.
    pub async fn sql(&self, text: &'static str) {
        sqlx::raw_sql(text).execute(self.store.pool()).await.unwrap();
    }

    /// Sets whether new sessions accept writes. Existing sessions do not change.
    pub async fn take_writes(&self, takes: bool) {
        let word = if takes { "off" } else { "on" };
        let sql = format!(
            "BEGIN READ WRITE; \
             DO $$ BEGIN EXECUTE format( \
                 'ALTER DATABASE %I SET default_transaction_read_only = {word}', \
                 current_database()); END $$; COMMIT"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(self.store.pool()).await.unwrap();
    }

    /// Ends all other sessions of the database.
    pub async fn end_sessions(&self) {
        self.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
    }

    /// Adds orders to the database, but not to the queue.
    pub async fn orders(&self, count: i64) -> Vec<OrderId> {
        let mut ids: Vec<i64> = sqlx::query_scalar(
            "INSERT INTO orders (product_id, quantity, unit_price_minor) \
             SELECT 1, 1, 100 FROM generate_series(1, $1) RETURNING id",
        )
        .bind(count)
        .fetch_all(self.store.pool())
        .await
        .unwrap();
        ids.sort_unstable();
        ids.into_iter().map(OrderId).collect()
    }

    pub async fn publish(&self, ids: &[OrderId]) {
        let jobs: Vec<_> =
            ids.iter().map(|id| Job { order_id: id.0, trace_context: None }).collect();
        self.queue.publish_many(&jobs).await.unwrap();
    }

    pub async fn count(&self, status: &str) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM orders WHERE status = $1")
            .bind(status)
            .fetch_one(self.store.pool())
            .await
            .unwrap()
    }

    /// Waits until this many orders have this status.
    pub async fn until(&self, status: &str, count: i64) {
        until("orders change their status", async || match self.count(status).await {
            now if now == count => Ok(()),
            now => Err(format!("{now} and not {count} orders are {status}")),
        })
        .await;
    }

    /// Waits until an attempt of an order has ended with a failure.
    pub async fn tried(&self, id: OrderId) -> Order {
        until("a try has ended", async || {
            let order = self.order(id).await;
            (order.failure.is_some() && order.status != OrderStatus::Processing).then_some(order)
        })
        .await
    }

    /// Waits until the queue is empty.
    pub async fn until_empty(&self) {
        until("the queue is empty", async || {
            let depth = self.queue.depth().await.unwrap();
            if depth.total() == 0 { Ok(()) } else { Err(format!("{depth:?}")) }
        })
        .await;
    }

    /// A worker in this process.
    pub fn worker<F: Fulfilment>(&self, settings: WorkerSettings, fulfilment: F) -> Worker {
        Worker::start(
            settings,
            self.store.clone(),
            self.queue.clone(),
            fulfilment,
            &holdfast_telemetry::Registry::default(),
            Readiness::default(),
        )
        .unwrap()
    }

    /// The arguments of the worker's binary, with short times.
    pub fn binary(&self) -> ProcessOptions {
        ProcessOptions::new(env!("CARGO_BIN_EXE_holdfast-worker"))
            .arg("run")
            .env("DATABASE_URL", &self.database_url)
            .env("REDIS_URL", self.redis.url())
            .env("HOLDFAST_METRICS_ADDR", "127.0.0.1:0")
            .env("HOLDFAST_LEASE_MS", "1000")
            .env("HOLDFAST_SWEEP_INTERVAL_MS", "100")
            .env("HOLDFAST_SWEEP_AFTER_MS", "500")
            .env("HOLDFAST_FULFILMENT_MS", "0")
    }

    /// Like [`Self::binary`], with a webhook receiver at `url`.
    pub fn binary_with_webhook(&self, url: &str) -> ProcessOptions {
        self.binary()
            .env("HOLDFAST_FULFILMENT", "webhook")
            .env("HOLDFAST_WEBHOOK_URL", url)
            .env("HOLDFAST_WEBHOOK_SECRET", SECRET)
            .env("HOLDFAST_WEBHOOK_ALLOW_PRIVATE", "true")
    }

    /// The current order.
    pub async fn order(&self, id: OrderId) -> Order {
        self.store.order(id).await.unwrap().unwrap()
    }

    pub async fn start(&self, options: ProcessOptions) -> Process {
        Process::start(options).await.unwrap()
    }
}

pub fn queue(redis: &Redis) -> Queue {
    let settings =
        QueueSettings { block: Duration::from_millis(200), ..QueueSettings::new(redis.url()) };
    Queue::connect(settings).unwrap()
}

/// A lease that expires while a test waits for that.
pub const SHORT_LEASE: Duration = Duration::from_secs(2);

/// An order is attempted once.
pub fn once() -> WorkerSettings {
    let hour = Duration::from_hours(1);
    WorkerSettings { retry_base: hour, retry_max: hour, sweep_after: hour, ..quick() }
}

/// Short times, except that no lease expires while the machine is busy.
pub fn quick() -> WorkerSettings {
    WorkerSettings {
        concurrency: 64,
        batch: 32,
        lease: Duration::from_secs(10),
        max_attempts: 3,
        retry_for: Duration::from_hours(1),
        retry_base: Duration::from_millis(20),
        retry_max: Duration::from_millis(100),
        sweep_interval: Duration::from_millis(50),
        idempotency_age: Duration::from_hours(24),
        sweep_after: Duration::from_millis(500),
    }
}

/// Waits until a GET of `url` is answered with this status.
pub async fn until_status(url: &str, status: u16) {
    let what = format!("{url} answers with {status}");
    until(&what, async || http_get(url).await.is_ok_and(|answer| answer.status == status)).await;
}
