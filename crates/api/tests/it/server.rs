//! An API process with its own database and, if requested, its own Redis.

use std::time::Duration;

use holdfast_sandbox::{
    Process, ProcessOptions, Progress, Redis, RedisOptions, metric, shared_postgres,
};
use holdfast_store::{Store, StoreSettings};
use serde_json::{Value, json};

use crate::client::{ApiAnswer, Client};

pub const BINARY: &str = env!("CARGO_BIN_EXE_holdfast-api");

/// Limits that no request reaches while a test holds a lock.
pub const PATIENT: [(&str, &str); 3] = [
    ("HOLDFAST_LOCK_TIMEOUT_MS", "20000"),
    ("HOLDFAST_STATEMENT_TIMEOUT_MS", "25000"),
    ("HOLDFAST_LANE_WAIT_MAX_MS", "20000"),
];

pub struct Server {
    pub process: Process,
    pub api: Client,
    pub internal: Client,
    pub admin: Client,
    pub store: Store,
    pub database_url: String,
    pub redis: Redis,
}

/// A new migrated database.
pub async fn database() -> String {
    let postgres = shared_postgres().await.unwrap();
    let migrate = async |url: String| {
        let store = Store::connect(&StoreSettings::new(&url)?);
        store.migrate().await?;
        store.close().await;
        Ok(())
    };
    postgres.create_database_from("migrated", migrate).await.unwrap()
}

impl Server {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With these additional settings.
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let redis = Redis::start(RedisOptions::default()).await.unwrap();
        let database_url = database().await;
        Self::on(&database_url, redis, settings).await
    }

    pub async fn on(database_url: &str, redis: Redis, settings: &[(&str, &str)]) -> Self {
        let process = spawn(database_url, &redis.url(), settings).await;
        let [api, internal, admin] = addresses(&process).await;
        let store = Store::connect(&StoreSettings {
            // PostgreSQL ends a session that holds a lock for twice this time.
            statement_timeout: Duration::from_mins(1),
            ..StoreSettings::new(database_url).unwrap()
        });
        let server = Self {
            process,
            api: Client::new(&api),
            internal: Client::new(&internal),
            admin: Client::new(&admin),
            store,
            database_url: database_url.to_owned(),
            redis,
        };
        server
            .until("it is ready", async || server.internal.get("/readyz").await.status == 200)
            .await;
        server
    }

    /// Like [`Process::until`].
    pub async fn until<P: Progress>(
        &self,
        what: &str,
        condition: impl AsyncFnMut() -> P,
    ) -> P::Value {
        self.process.until(what, condition).await
    }

    pub async fn product(&self, stock: i64) -> i64 {
        let body = json!({ "name": "Espresso machine", "price": 499.9, "stock": stock });
        let answer = self.api.post("/products", &body).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()["id"].as_i64().unwrap()
    }

    pub async fn order(&self, product: i64, quantity: i64) -> ApiAnswer {
        self.api.post("/orders", &json!({ "product_id": product, "quantity": quantity })).await
    }

    /// All data that a request could have changed.
    pub async fn contents(&self) -> (Value, Value) {
        let products = self.api.get("/products?limit=1000").await;
        let orders = self.api.get("/orders?limit=1000").await;
        assert_eq!((products.status, orders.status), (200, 200));
        (products.json(), orders.json())
    }

    /// The value of a counter or gauge; a missing one fails the test.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a count")]
    pub async fn metric(&self, series: &str) -> u64 {
        metric(&self.internal.get("/metrics").await.text, series) as u64
    }
}

/// Starts `serve` on ports that the system assigns.
pub async fn spawn(database_url: &str, redis_url: &str, settings: &[(&str, &str)]) -> Process {
    let mut options = ProcessOptions::new(BINARY)
        .arg("serve")
        .env("HOLDFAST_HTTP_ADDR", "127.0.0.1:0")
        .env("HOLDFAST_METRICS_ADDR", "127.0.0.1:0")
        .env("HOLDFAST_ADMIN_ADDR", "127.0.0.1:0")
        .env("HOLDFAST_CONSOLE", "on")
        .env("HOLDFAST_AUTH", "off")
        .env("DATABASE_URL", database_url)
        .env("REDIS_URL", redis_url)
        .env("HOLDFAST_DRAIN_DELAY_MS", "0");
    for (name, value) in settings {
        options = options.env(*name, *value);
    }
    Process::start(options).await.unwrap()
}

/// The addresses in its log: the API, the internal port and the admin port.
pub async fn addresses(process: &Process) -> [String; 3] {
    let started = process.started().await;
    ["api", "metrics", "admin"].map(|name| started[name].as_str().unwrap().to_owned())
}
