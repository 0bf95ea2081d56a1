//! One API process with a database and, if asked for, a Redis of its own.

use std::time::{Duration, Instant};

use holdfast_sandbox::{Process, ProcessOptions, Redis, RedisOptions, shared_postgres};
use holdfast_store::{Store, StoreSettings};
use serde_json::{Value, json};

use crate::client::{Answer, Client};

pub const BINARY: &str = env!("CARGO_BIN_EXE_holdfast-api");

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Server {
    pub process: Process,
    pub api: Client,
    pub internal: Client,
    pub admin: Client,
    pub store: Store,
    pub database_url: String,
    pub redis: Redis,
}

/// A migrated database of its own.
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

    /// With these settings on top.
    pub async fn with(settings: &[(&str, &str)]) -> Self {
        let redis = Redis::start(RedisOptions::default()).await.unwrap();
        let database_url = database().await;
        Self::on(&database_url, redis, settings).await
    }

    pub async fn on(database_url: &str, redis: Redis, settings: &[(&str, &str)]) -> Self {
        let process = spawn(database_url, &redis.url(), settings).await;
        let [api, internal, admin] = addresses(&process).await;
        let store = Store::connect(&StoreSettings::new(database_url).unwrap());
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

    /// Polls until `condition` holds.
    pub async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        let begun = Instant::now();
        while !condition().await {
            assert!(
                begun.elapsed() < PATIENCE,
                "{what}: not in time\n{}",
                self.process.log_tail(30)
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn product(&self, stock: i64) -> i64 {
        let body = json!({ "name": "Espresso machine", "price": 499.9, "stock": stock });
        let answer = self.api.post("/products", &body).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()["id"].as_i64().unwrap()
    }

    pub async fn order(&self, product: i64, quantity: i64) -> Answer {
        self.api.post("/orders", &json!({ "product_id": product, "quantity": quantity })).await
    }

    /// Everything that a request could have changed.
    pub async fn contents(&self) -> (Value, Value) {
        let products = self.api.get("/products?limit=1000").await;
        let orders = self.api.get("/orders?limit=1000").await;
        assert_eq!((products.status, orders.status), (200, 200));
        (products.json(), orders.json())
    }

    /// The value of a counter or gauge on the metrics page, by the line's beginning; 0 if there is none.
    pub async fn metric(&self, beginning: &str) -> u64 {
        let page = self.internal.get("/metrics").await.text;
        page.lines()
            .find_map(|line| line.strip_prefix(beginning))
            .map_or(0, |value| value.trim().parse().unwrap())
    }
}

/// Starts `serve` on ports that the system gives out.
pub async fn spawn(database_url: &str, redis_url: &str, settings: &[(&str, &str)]) -> Process {
    let mut options = ProcessOptions::new(BINARY)
        .arg("serve")
        .env("HOLDFAST_HTTP_ADDR", "127.0.0.1:0")
        .env("HOLDFAST_METRICS_ADDR", "127.0.0.1:0")
        .env("HOLDFAST_ADMIN_ADDR", "127.0.0.1:0")
        .env("HOLDFAST_AUTH", "off")
        .env("DATABASE_URL", database_url)
        .env("REDIS_URL", redis_url)
        .env("HOLDFAST_DRAIN_DELAY_MS", "0");
    for (name, value) in settings {
        options = options.env(*name, *value);
    }
    Process::start(options).await.unwrap()
}

/// Where it says that it listens: the API, the internal port and the admin port.
pub async fn addresses(process: &Process) -> [String; 3] {
    let begun = Instant::now();
    loop {
        let log = process.log().unwrap();
        let started = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        if let Some(line) = started.into_iter().find(|line| line["message"] == "started") {
            let address = |name: &str| line[name].as_str().unwrap().to_owned();
            return ["api", "metrics", "admin"].map(address);
        }
        assert!(begun.elapsed() < PATIENCE && process.status().is_none(), "not started:\n{log}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
