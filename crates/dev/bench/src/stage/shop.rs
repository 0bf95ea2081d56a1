//! A shop: a database of its own with products, API replicas and workers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use holdfast_sandbox::{Port, Process, ProcessOptions, Ready};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use super::Stage;
use crate::audit::Log;
use crate::pgbench;
use crate::processes::Watched;

/// Units of each product before the first order: more than any run sells.
pub const STOCK: i64 = 1_000_000_000;

/// What a unit costs.
pub const PRICE_MINOR: i64 = 49_990;

const MIGRATE_LIMIT: Duration = Duration::from_mins(1);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// What a shop has.
#[derive(Clone, Copy, Debug)]
pub struct ShopOptions {
    /// Its products, with ids from 1.
    pub products: u32,
    /// API processes.
    pub replicas: u32,
}

/// What the API of a shop does besides, which is off otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub enum Extra {
    /// Nothing.
    #[default]
    None,
    /// Asks for a key, and counts what each key sends against a limit.
    Access,
    /// Sends traces.
    Traces {
        /// Where to.
        collector: SocketAddr,
        /// The part of the requests that have one.
        ratio: &'static str,
    },
}

impl Extra {
    fn settings(self) -> Vec<(&'static str, String)> {
        let off = ("HOLDFAST_AUTH", "off".to_owned());
        match self {
            Self::None => vec![off],
            Self::Access => vec![("HOLDFAST_RATE_LIMIT", "1000000".to_owned())],
            Self::Traces { collector, ratio } => vec![
                off,
                ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}")),
                ("OTEL_TRACES_SAMPLER", "traceidratio".to_owned()),
                ("OTEL_TRACES_SAMPLER_ARG", ratio.to_owned()),
            ],
        }
    }
}

/// A running shop. Dropping it ends its processes; its database stays until
/// [`Stage::drop_database`].
#[derive(Debug)]
pub struct Shop {
    /// Its database.
    pub database_url: String,
    /// Its products.
    pub product_ids: Vec<i64>,
    /// A key that allows orders, where the API asks for one.
    pub key: Option<String>,
    /// What the clients were told so far.
    pub log: Log,
    replicas: Vec<Served>,
    workers: Vec<Served>,
}

/// A process with its ports.
#[derive(Debug)]
struct Served {
    process: Process,
    public: Port,
    _metrics: Port,
}

impl Stage {
    /// A new database with our tables and products 1 to `products`, as after a `VACUUM`.
    ///
    /// # Errors
    /// When the migrations or PostgreSQL fail.
    pub async fn new_database(&self, products: u32) -> anyhow::Result<String> {
        let database_url = self.postgres.create_database().await?;
        let migrate = Process::start(
            ProcessOptions::new(&self.api)
                .arg("migrate")
                .env("DATABASE_URL", &database_url)
                .env("HOLDFAST_LOG", "warn"),
        )
        .await?;
        match migrate.wait(MIGRATE_LIMIT).await {
            Some(status) if status.success() => {}
            Some(status) => bail!("migrate ended ({status}):\n{}", migrate.log_tail(20)),
            None => bail!("migrate did not end in {MIGRATE_LIMIT:?}"),
        }
        let mut connection = database_url.parse::<PgConnectOptions>()?.connect().await?;
        sqlx::query(
            "INSERT INTO products (name, description, price_minor, stock) \
             SELECT 'Product ' || number, 'One of the products that the benchmark orders', $2, $3 \
             FROM generate_series(1, $1) AS number",
        )
        .bind(i32::try_from(products)?)
        .bind(PRICE_MINOR)
        .bind(STOCK)
        .execute(&mut connection)
        .await?;
        connection.close().await?;
        pgbench::tidy(&database_url).await?;
        Ok(database_url)
    }

    /// Opens a shop on a new database and an empty Redis.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn open_shop(&self, options: ShopOptions) -> anyhow::Result<Shop> {
        self.open_shop_with(options, Extra::None).await
    }

    /// Opens a shop whose API does something besides.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn open_shop_with(&self, options: ShopOptions, extra: Extra) -> anyhow::Result<Shop> {
        let database_url = self.new_database(options.products).await?;
        self.redis.flush().await?;
        let product_ids: Vec<i64> = (1..=i64::from(options.products)).collect();
        let log = Log {
            initial_stock: product_ids.iter().map(|id| (*id, STOCK)).collect(),
            ..Log::default()
        };
        // Before the API starts, so that it knows it from the beginning.
        let key = match extra {
            Extra::Access => Some(self.create_key(&database_url).await?),
            Extra::None | Extra::Traces { .. } => None,
        };
        let mut shop =
            Shop { database_url, product_ids, key, log, replicas: Vec::new(), workers: Vec::new() };
        for _ in 0..options.replicas {
            let served = self.serve(&shop.database_url, Kind::Api(extra)).await?;
            shop.replicas.push(served);
        }
        Ok(shop)
    }

    /// Starts workers whose fulfilment does nothing.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn add_workers(&self, shop: &mut Shop, count: u32) -> anyhow::Result<()> {
        for _ in 0..count {
            let served = self.serve(&shop.database_url, Kind::Worker).await?;
            shop.workers.push(served);
        }
        Ok(())
    }

    /// Makes a key that allows orders.
    async fn create_key(&self, database_url: &str) -> anyhow::Result<String> {
        let created = tokio::process::Command::new(&self.api)
            .args(["keys", "create", "--name=bench", "--scopes=orders:write"])
            .env("DATABASE_URL", database_url)
            .env("HOLDFAST_LOG", "warn")
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(MIGRATE_LIMIT, created).await??;
        let key = String::from_utf8(output.stdout)?.trim().to_owned();
        if !output.status.success() || key.is_empty() {
            bail!("no key was made:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(key)
    }

    async fn serve(&self, database_url: &str, kind: Kind) -> anyhow::Result<Served> {
        let (public, metrics) = (Port::lease()?, Port::lease()?);
        let program = match kind {
            Kind::Api(extra) => extra
                .settings()
                .into_iter()
                .fold(ProcessOptions::new(&self.api), |program, (name, value)| {
                    program.env(name, value)
                })
                .arg("serve")
                .ready(Ready::Http(format!("http://{}/readyz", public.address()))),
            Kind::Worker => ProcessOptions::new(&self.worker)
                .arg("run")
                .env("HOLDFAST_FULFILMENT_MS", "0")
                .ready(Ready::Http(format!("http://{}/readyz", metrics.address()))),
        };
        let process = Process::start(
            program
                .env("DATABASE_URL", database_url)
                .env("REDIS_URL", self.redis.url())
                .env("HOLDFAST_HTTP_ADDR", public.address().to_string())
                .env("HOLDFAST_METRICS_ADDR", metrics.address().to_string())
                .env("HOLDFAST_ADMIN_ADDR", "127.0.0.1:0")
                .env("HOLDFAST_LOG", "warn"),
        )
        .await?;
        Ok(Served { process, public, _metrics: metrics })
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Api(Extra),
    Worker,
}

impl Shop {
    /// Where the replicas listen.
    pub fn targets(&self) -> Vec<SocketAddr> {
        self.replicas.iter().map(|replica| replica.public.address()).collect()
    }

    /// Its processes, to be watched.
    pub fn watched(&self) -> Vec<Watched> {
        let watch = |name: &'static str| {
            move |served: &Served| Watched { name, pid: served.process.pid(), with_children: false }
        };
        self.replicas
            .iter()
            .map(watch("API"))
            .chain(self.workers.iter().map(watch("worker")))
            .collect()
    }

    /// Waits until no order has a way to go any more; returns whether that came within `limit`.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn all_final(&self, limit: Duration) -> anyhow::Result<bool> {
        let mut connection = self.database_url.parse::<PgConnectOptions>()?.connect().await?;
        let started = Instant::now();
        let done = loop {
            let left: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM orders WHERE status IN ('pending', 'processing'))",
            )
            .fetch_one(&mut connection)
            .await?;
            if !left || started.elapsed() > limit {
                break !left;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        connection.close().await?;
        Ok(done)
    }

    /// Ends its workers and replicas in order.
    ///
    /// # Errors
    /// When one has died before, or does not end in time.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        for served in self.workers.drain(..).chain(self.replicas.drain(..)) {
            if let Some(status) = served.process.status() {
                bail!("a process died ({status}):\n{}", served.process.log_tail(20));
            }
            let status = served.process.stop(STOP_LIMIT).await.context("a process does not end")?;
            if !status.success() {
                bail!("a process ended badly ({status}):\n{}", served.process.log_tail(20));
            }
        }
        Ok(())
    }
}
