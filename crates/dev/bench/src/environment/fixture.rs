//! A fixture: its own database with products, API replicas and workers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::bail;
use holdfast_sandbox::{Program, migrate};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};

use super::BenchEnvironment;
use crate::audit::Log;
use crate::pgbench;
use crate::processes::Watched;

/// Units of each product before the first order: more than any run sells.
pub const STOCK: i64 = 1_000_000_000;

/// The price of a unit.
pub const PRICE_MINOR: i64 = 49_990;

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The size of a fixture.
#[derive(Clone, Copy, Debug)]
pub struct FixtureOptions {
    /// Its products, with ids from 1.
    pub products: u32,
    /// API processes.
    pub replicas: u32,
}

/// Optional work of the API.
#[derive(Clone, Copy, Debug, Default)]
pub enum Extra {
    /// Nothing.
    #[default]
    None,
    /// Requires a key, and counts the requests of each key against a limit.
    Access,
    /// Sends traces.
    Traces {
        /// The address of the collector.
        collector: SocketAddr,
        /// The fraction of requests with a trace.
        ratio: &'static str,
    },
}

impl Extra {
    fn settings(self) -> Vec<(&'static str, String)> {
        match self {
            Self::None => Vec::new(),
            Self::Access => vec![
                ("HOLDFAST_AUTH", "on".to_owned()),
                ("HOLDFAST_RATE_LIMIT", "1000000".to_owned()),
            ],
            Self::Traces { collector, ratio } => vec![
                ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}")),
                ("OTEL_TRACES_SAMPLER", "traceidratio".to_owned()),
                ("OTEL_TRACES_SAMPLER_ARG", ratio.to_owned()),
            ],
        }
    }
}

/// A running fixture. Dropping it ends its processes; its database stays until
/// [`BenchEnvironment::drop_database`].
#[derive(Debug)]
pub struct BenchFixture {
    pub database_url: String,
    pub product_ids: Vec<i64>,
    /// A key that allows orders, if the API requires one.
    pub key: Option<String>,
    /// The log of the clients.
    pub log: Log,
    replicas: Vec<Program>,
    workers: Vec<Program>,
}

impl BenchEnvironment {
    /// A new database with our tables and products 1 to `products`, as after a `VACUUM`.
    ///
    /// # Errors
    /// The migrations or PostgreSQL fail.
    pub async fn new_database(&self, products: u32) -> anyhow::Result<String> {
        let database_url = self.postgres.create_database().await?;
        migrate(&self.api, &database_url).await?;
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

    /// Opens a fixture on a new database and an empty Redis.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn open_fixture(&self, options: FixtureOptions) -> anyhow::Result<BenchFixture> {
        self.open_fixture_with(options, Extra::None).await
    }

    /// Opens a fixture whose API does optional work.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn open_fixture_with(
        &self,
        options: FixtureOptions,
        extra: Extra,
    ) -> anyhow::Result<BenchFixture> {
        let database_url = self.new_database(options.products).await?;
        self.redis.flush().await?;
        let product_ids: Vec<i64> = (1..=i64::from(options.products)).collect();
        let log = Log {
            initial_stock: product_ids.iter().map(|id| (*id, STOCK)).collect(),
            ..Log::default()
        };
        // Before the API starts, so that the key is known from the beginning.
        let key = match extra {
            Extra::Access => Some(self.create_key(&database_url).await?),
            Extra::None | Extra::Traces { .. } => None,
        };
        let mut fixture = BenchFixture {
            database_url,
            product_ids,
            key,
            log,
            replicas: Vec::new(),
            workers: Vec::new(),
        };
        for _ in 0..options.replicas {
            let program = Program::api(&self.api, &fixture.database_url, &self.redis.url())?;
            let set = |program: Program, (name, value)| program.env(name, value);
            let program = extra.settings().into_iter().fold(program, set);
            fixture.replicas.push(started(program).await?);
        }
        Ok(fixture)
    }

    /// Starts workers whose fulfilment does nothing.
    ///
    /// # Errors
    /// One does not start.
    pub async fn add_workers(&self, fixture: &mut BenchFixture, count: u32) -> anyhow::Result<()> {
        for _ in 0..count {
            let program = Program::worker(&self.worker, &fixture.database_url, &self.redis.url())?;
            fixture.workers.push(started(program.env("HOLDFAST_FULFILMENT_MS", "0")).await?);
        }
        Ok(())
    }

    /// Creates a key that allows orders.
    async fn create_key(&self, database_url: &str) -> anyhow::Result<String> {
        let created = tokio::process::Command::new(&self.api)
            .args(["keys", "create", "--name=bench", "--scopes=orders:write"])
            .env("DATABASE_URL", database_url)
            .env("HOLDFAST_LOG", "warn")
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(START_LIMIT, created).await??;
        let key = String::from_utf8(output.stdout)?.trim().to_owned();
        if !output.status.success() || key.is_empty() {
            bail!("no key was created:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(key)
    }
}

/// Starts a process, and waits until it is ready.
async fn started(program: Program) -> anyhow::Result<Program> {
    let program = program.env("HOLDFAST_LOG", "warn");
    program.start().await?;
    program.ready(START_LIMIT).await?;
    Ok(program)
}

impl BenchFixture {
    /// The addresses of the replicas.
    pub fn targets(&self) -> Vec<SocketAddr> {
        self.replicas.iter().map(Program::address).collect()
    }

    /// Its processes, for measurements.
    pub fn watched(&self) -> Vec<Watched> {
        let of = |name, programs: &[Program]| {
            let pids = programs.iter().filter_map(Program::pid);
            pids.map(|pid| Watched { name, pid, with_children: false }).collect::<Vec<_>>()
        };
        [of("API", &self.replicas), of("worker", &self.workers)].concat()
    }

    /// Waits until all orders have a final status. Returns whether this happened within `limit`.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn all_final(&self, limit: Duration) -> anyhow::Result<bool> {
        let mut connection = self.database_url.parse::<PgConnectOptions>()?.connect().await?;
        let done = all_final(&mut connection, limit).await?;
        connection.close().await?;
        Ok(done)
    }

    /// Stops its workers and replicas gracefully.
    ///
    /// # Errors
    /// A process has died before, or does not stop in time.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        for program in self.workers.drain(..).chain(self.replicas.drain(..)) {
            program.terminate(STOP_LIMIT).await?;
        }
        Ok(())
    }
}

/// Waits until all orders have a final status. Returns whether this happened within `limit`.
///
/// # Errors
/// The database cannot be asked.
pub async fn all_final(connection: &mut PgConnection, limit: Duration) -> sqlx::Result<bool> {
    let started = Instant::now();
    loop {
        let left: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM orders WHERE status IN ('pending', 'processing'))",
        )
        .fetch_one(&mut *connection)
        .await?;
        if !left || started.elapsed() > limit {
            return Ok(!left);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
