//! The servers of a run: PostgreSQL and Redis, which are started once, and fixtures on them.

mod files;
mod fixture;
mod locks;
mod nothing;

use std::path::PathBuf;

use anyhow::Context as _;
use holdfast_sandbox::{Postgres, PostgresOptions, Redis, RedisOptions, workspace_binary};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};

use crate::pgbench::Pgbench;
use crate::processes::Watched;

pub use fixture::{BenchFixture, Extra, FixtureOptions, PRICE_MINOR, STOCK, all_final};
pub use locks::{RowLock, RowsToLock};
pub use nothing::Nothing;

/// PostgreSQL's settings that differ from the defaults, as usual on a server.
/// `fsync`, `synchronous_commit` and `full_page_writes` are on, as in production.
pub const POSTGRES_SETTINGS: [(&str, &str); 6] = [
    ("shared_buffers", "512MB"),
    ("effective_cache_size", "2GB"),
    ("max_wal_size", "4GB"),
    ("min_wal_size", "1GB"),
    ("checkpoint_timeout", "15min"),
    ("random_page_cost", "1.1"),
];

/// Servers and binaries of a run.
#[derive(Debug)]
pub struct BenchEnvironment {
    /// PostgreSQL, with durable commits.
    pub postgres: Postgres,
    /// Redis without persistence, because the orders table is the outbox.
    pub redis: Redis,
    /// The baselines.
    pub pgbench: Pgbench,
    /// The most files, and therefore connections, that a process may have open.
    pub open_files: u64,
    pub(crate) api: PathBuf,
    pub(crate) worker: PathBuf,
}

impl BenchEnvironment {
    /// Starts PostgreSQL and Redis.
    ///
    /// # Errors
    /// A program or binary is missing (the error says what to type), or does not start.
    pub async fn start() -> anyhow::Result<Self> {
        let settings =
            POSTGRES_SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let open_files = files::raise_open_files()?;
        let pgbench = Pgbench::find()?;
        let api = workspace_binary("holdfast-api")?;
        let worker = workspace_binary("holdfast-worker")?;
        let options = PostgresOptions { durable: true, settings, ..PostgresOptions::default() };
        let postgres = Postgres::start(options).await?;
        let redis = Redis::start(RedisOptions::default()).await?;
        Ok(Self { postgres, redis, pgbench, open_files, api, worker })
    }

    /// The server processes, for measurements.
    ///
    /// # Errors
    /// One is down.
    pub async fn watched(&self) -> anyhow::Result<Vec<Watched>> {
        let postgres = self.postgres.pid().await.context("PostgreSQL is down")?;
        let redis = self.redis.pid().context("Redis is down")?;
        Ok(vec![
            Watched { name: "PostgreSQL", pid: postgres, with_children: true },
            Watched { name: "Redis", pid: redis, with_children: false },
            Watched { name: "load generator", pid: std::process::id(), with_children: false },
        ])
    }

    /// Drops a database that is no longer needed, so that a long run does not fill the disk.
    ///
    /// # Errors
    /// The server refuses it.
    pub async fn drop_database(&self, database_url: &str) -> anyhow::Result<()> {
        let options: PgConnectOptions = database_url.parse()?;
        let name = options.get_database().context("a URL without a database")?.to_owned();
        let mut connection = options.database("postgres").connect().await?;
        connection
            .execute(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")))
            .await?;
        connection.close().await?;
        Ok(())
    }

    /// PostgreSQL's version.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn postgres_version(&self) -> anyhow::Result<String> {
        let mut connection = self.postgres.url().parse::<PgConnectOptions>()?.connect().await?;
        let version: String =
            sqlx::query_scalar("SHOW server_version").fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(version)
    }
}
