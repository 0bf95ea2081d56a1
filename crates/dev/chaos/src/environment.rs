//! A complete Holdfast on private servers: replicas, workers, and a proxy in front of each server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use holdfast_bench::audit::{Expectation, Findings, Log, audit};
use holdfast_bench::environment::all_final;
use holdfast_sandbox::{
    Clock, Disk, Keep, Postgres, PostgresOptions, PostgresVersion, Program, Proxy, Redis,
    RedisCluster, RedisOptions, RedisSentinels, migrate, workspace_binary,
};
use parking_lot::Mutex;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};

use crate::clients::{Clients, ClientsRecord, Crowd, ReplicaAddress};
use crate::downstream::{Downstream, REFUSED_AT_FIRST};

/// Units of each product before the first order.
pub const STOCK: i64 = 1_000_000;

/// The size of PostgreSQL's own disk, if it has one: enough for its log and an hour of orders.
const DISK: u64 = 8 << 30;

const DATABASE: &str = "holdfast";

/// The settings of an environment.
#[derive(Clone, Debug)]
pub struct EnvironmentOptions {
    /// API replicas.
    pub apis: usize,
    pub workers: usize,
    /// Products, with ids from 1.
    pub products: i64,
    /// Connections that PostgreSQL allows.
    pub max_connections: u32,
    /// Whether PostgreSQL has its own disk.
    pub disk: bool,
    /// Whether PostgreSQL and the first of our processes use clocks that can be set.
    pub clocks: bool,
    /// The kind of Redis.
    pub redis: RedisSetup,
    pub postgres: PostgresVersion,
}

/// The servers of Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedisSetup {
    /// One server, behind proxies.
    #[default]
    One,
    /// A primary, two replicas and three Sentinels, without proxies.
    Sentinels,
    /// A cluster of three primaries with a replica each, without proxies.
    Cluster,
}

impl Default for EnvironmentOptions {
    fn default() -> Self {
        Self {
            apis: 2,
            workers: 2,
            products: 4,
            max_connections: 100,
            disk: false,
            clocks: false,
            redis: RedisSetup::One,
            postgres: PostgresVersion::default(),
        }
    }
}

/// Clocks that can be set.
#[derive(Debug)]
pub struct Clocks {
    /// The clock of the first replica and the first worker.
    pub first: Clock,
    /// The clock of PostgreSQL.
    pub postgres: Clock,
}

impl Clocks {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { first: Clock::new()?, postgres: Clock::new()? })
    }
}

/// A running Holdfast. Everything ends on drop.
#[derive(Debug)]
pub struct Environment {
    /// Replicas of the API.
    pub apis: Vec<Program>,
    pub workers: Vec<Program>,
    /// The proxy between the replicas and PostgreSQL.
    pub api_postgres: Proxy,
    /// The proxy between the replicas and Redis.
    pub api_redis: Proxy,
    /// The proxy between the workers and PostgreSQL.
    pub worker_postgres: Proxy,
    /// The proxy between the workers and Redis.
    pub worker_redis: Proxy,
    /// The receiver of orders.
    pub downstream: Downstream,
    /// Redis without persistence; after a failure, the replacement.
    redis: Mutex<Arc<Redis>>,
    /// The Sentinels and their servers, with [`RedisSetup::Sentinels`].
    pub sentinels: Option<RedisSentinels>,
    /// The cluster, with [`RedisSetup::Cluster`].
    pub cluster: Option<RedisCluster>,
    /// PostgreSQL with durable commits.
    pub postgres: Postgres,
    /// PostgreSQL's own disk, if it has one.
    pub disk: Option<Disk>,
    /// The clocks that can be set.
    pub clocks: Option<Clocks>,
    /// The URL of the database, without the proxies.
    pub database_url: String,
    pub products: Vec<i64>,
    /// Sessions that hold locks for a fault.
    pub(crate) sessions: Mutex<Vec<PgConnection>>,
}

impl Environment {
    /// Starts everything; returns when replicas and workers are ready.
    ///
    /// # Errors
    /// A part does not start.
    pub async fn start(options: &EnvironmentOptions) -> anyhow::Result<Self> {
        let disk = options.disk.then(|| Disk::mount(DISK)).transpose()?;
        let clocks = options.clocks.then(Clocks::new).transpose()?;
        let postgres = PostgresOptions {
            durable: true,
            max_connections: options.max_connections,
            keep: disk.as_ref().map_or(Keep::Nothing, |disk| Keep::In(disk.path().to_owned())),
            env: clocks.as_ref().map(|clocks| clocks.postgres.env()).unwrap_or_default(),
            version: options.postgres,
            ..PostgresOptions::default()
        };

        let (postgres, redis, downstream) = tokio::try_join!(
            Postgres::start(postgres),
            Redis::start(RedisOptions::default()),
            Downstream::start()
        )?;
        let sentinels = match options.redis {
            RedisSetup::Sentinels => Some(RedisSentinels::start(&[], "").await?),
            _ => None,
        };
        if let Some(sentinels) = &sentinels {
            sentinels.until_complete("").await;
        }
        let cluster = match options.redis {
            RedisSetup::Cluster => Some(RedisCluster::start().await?),
            _ => None,
        };
        let database_url = postgres.ensure_database(DATABASE).await?;
        let (postgres_at, redis_at) = (local(postgres.port()), local(redis.port()));
        let environment = Self {
            apis: Vec::new(),
            workers: Vec::new(),
            api_postgres: Proxy::start(postgres_at).await?,
            api_redis: Proxy::start(redis_at).await?,
            worker_postgres: Proxy::start(postgres_at).await?,
            worker_redis: Proxy::start(redis_at).await?,
            downstream,
            redis: Mutex::new(Arc::new(redis)),
            sentinels,
            cluster,
            postgres,
            disk,
            clocks,
            database_url,
            products: (1..=options.products).collect(),
            sessions: Mutex::default(),
        };
        environment.fill().await?;
        environment.populate(options).await
    }

    async fn fill(&self) -> anyhow::Result<()> {
        migrate(&workspace_binary("holdfast-api")?, &self.database_url).await?;
        sqlx::query(
            "INSERT INTO products (name, description, price_minor, stock) \
             SELECT 'Product ' || number, '', 100, $2 FROM generate_series(1, $1) AS number",
        )
        .bind(i64::try_from(self.products.len())?)
        .bind(STOCK)
        .execute(&mut self.connect().await?)
        .await?;
        Ok(())
    }

    async fn populate(mut self, options: &EnvironmentOptions) -> anyhow::Result<Self> {
        let postgres =
            |proxy: &Proxy| format!("postgres://postgres@{}/{DATABASE}", proxy.address());
        let redis = |proxy: &Proxy| match (&self.sentinels, &self.cluster) {
            (Some(sentinels), _) => sentinels.url(),
            (_, Some(cluster)) => cluster.url(),
            _ => format!("redis://{}", proxy.address()),
        };
        let (database_url, redis_url) = (postgres(&self.api_postgres), redis(&self.api_redis));
        for _ in 0..options.apis {
            let api = Program::api(&workspace_binary("holdfast-api")?, &database_url, &redis_url)?;
            self.apis.push(api.env("HOLDFAST_UNREADY_AFTER_MS", "2000"));
        }
        let (database_url, redis_url) =
            (postgres(&self.worker_postgres), redis(&self.worker_redis));
        for _ in 0..options.workers {
            let worker = self.downstream.worker(&database_url, &redis_url)?;
            self.workers.push(worker);
        }
        if let Some(clocks) = &self.clocks {
            for program in self.apis.iter_mut().take(1).chain(self.workers.iter_mut().take(1)) {
                program.extend_env(clocks.first.env());
            }
        }
        for program in self.apis.iter().chain(&self.workers) {
            program.start().await?;
        }
        self.ready(Duration::from_secs(30)).await?;
        Ok(self)
    }

    /// A connection to the database, without the proxies.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn connect(&self) -> anyhow::Result<PgConnection> {
        Ok(self.database_url.parse::<PgConnectOptions>()?.connect().await?)
    }

    /// Clients that order all its products at all its replicas.
    pub fn clients(&self, count: usize) -> Clients {
        self.crowd(&Crowd { buyers: count, writers: 0, hang_ups: 0.0, seed: 0 })
    }

    /// Clients for all its products at all its replicas.
    pub fn crowd(&self, crowd: &Crowd) -> Clients {
        let target = |api: &Program| ReplicaAddress { public: api.address(), admin: api.admin() };
        let targets: Vec<_> = self.apis.iter().map(target).collect();
        let stock: BTreeMap<_, _> = self.products.iter().map(|id| (*id, STOCK)).collect();
        Clients::start(crowd, &targets, &self.products, stock)
    }

    /// The current Redis.
    pub fn redis(&self) -> Arc<Redis> {
        Arc::clone(&self.redis.lock())
    }

    /// Kills Redis, and replaces it by an empty one at the same address.
    ///
    /// # Errors
    /// The replacement does not start.
    pub async fn fail_redis_over(&self) -> anyhow::Result<()> {
        let heir = Redis::start(RedisOptions::default()).await?;
        for proxy in [&self.api_redis, &self.worker_redis] {
            proxy.lead_to(local(heir.port()));
        }
        let failed = std::mem::replace(&mut *self.redis.lock(), Arc::new(heir));
        failed.kill9().await
    }

    /// Waits until every process that is up is ready.
    ///
    /// # Errors
    /// They are not ready within `limit`.
    pub async fn ready(&self, limit: Duration) -> anyhow::Result<()> {
        for program in self.apis.iter().chain(&self.workers) {
            program.ready(limit).await?;
        }
        Ok(())
    }

    /// Waits until all orders are final, then audits the guarantees with the logs of the clients and of the receiver.
    ///
    /// # Errors
    /// The database cannot be read. A violation, or an order that is not final within `limit`, is a finding.
    pub async fn audit(&self, seen: &ClientsRecord, limit: Duration) -> anyhow::Result<Findings> {
        let mut connection = self.connect().await?;
        // The audit reports orders that are not final.
        all_final(&mut connection, limit).await?;
        // Orders of writers can also end in other states.
        let all_completed = seen.log.writes().next().is_none();
        let expectation = Expectation { all_completed, all_final: true };
        let log = Log { fulfilled: self.downstream.fulfilled(), ..seen.log.clone() };
        let mut findings = audit(&self.database_url, Some(&log), expectation).await?;
        self.audit_downstream(&mut connection, &mut findings).await?;
        findings.violations.extend(seen.wrong.iter().map(|it| format!("a wrong answer: {it}")));
        Ok(findings)
    }

    /// The receiver was sent only existing orders, and all orders with an attempt.
    async fn audit_downstream(
        &self,
        connection: &mut PgConnection,
        findings: &mut Findings,
    ) -> anyhow::Result<()> {
        let sent = self.downstream.orders();
        let unsent: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM orders WHERE status IN ('completed', 'failed') AND id <> ALL($1)",
        )
        .bind(&sent)
        .fetch_one(&mut *connection)
        .await?;
        let unknown: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM unnest($1::bigint[]) AS sent (id) \
             WHERE NOT EXISTS (SELECT FROM orders WHERE orders.id = sent.id)",
        )
        .bind(&sent)
        .fetch_one(&mut *connection)
        .await?;
        let refused: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM orders WHERE status = 'failed' \
                 AND NOT starts_with(coalesce(customer_ref, ''), $1)",
        )
        .bind(REFUSED_AT_FIRST)
        .fetch_one(connection)
        .await?;
        for (count, what) in [
            (unsent, "orders are completed but never reached the receiver"),
            (unknown, "ids of unknown orders were sent to the receiver"),
            (refused, "orders have failed although the receiver has not refused them"),
        ] {
            if count > 0 {
                findings.violations.push(format!("{count} {what}"));
            }
        }
        Ok(())
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
