//! The settings of `holdfast-api`. Each doc comment is the setting's help text; the ranges in them
//! are compared with the parsers in a test.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use clap::{Args, ValueEnum};
use holdfast_admission::AdmissionSettings;
use holdfast_queue::QueueSettings;
use holdfast_redis::{RedisCa, RedisUrl};
use holdfast_store::{DatabaseUrl, StoreSettings};
use holdfast_telemetry::{
    TelemetrySettings,
    settings::{MustBe, Together, address, milliseconds, whole},
};

use crate::limits::OrderLimits;

mod access;
mod http;
mod read_replicas;

pub use access::{AccessSettings, Auth, Origin};
pub use http::HttpSettings;
pub use read_replicas::ReadReplicaSettings;

/// The API's port.
const HTTP_PORT: u16 = 8000;

/// The settings of `serve`.
#[derive(Clone, Debug, Args)]
pub struct ServeSettings {
    // In the order of the help: what most people set comes first.
    /// The ports.
    #[command(flatten)]
    pub ports: PortSettings,
    /// Access control.
    #[command(flatten)]
    pub access: AccessSettings,
    /// Orders and admission.
    #[command(flatten)]
    pub orders: OrderSettings,
    /// PostgreSQL.
    #[command(flatten)]
    pub database: DatabaseSettings,
    /// Read replicas.
    #[command(flatten)]
    pub replicas: ReadReplicaSettings,
    /// Redis and the read cache.
    #[command(flatten)]
    pub cache: RedisCacheSettings,
    /// Connections and requests.
    #[command(flatten)]
    pub http: HttpSettings,
    /// Logs and traces.
    #[command(flatten)]
    pub telemetry: TelemetrySettings,
    /// Connections to PostgreSQL.
    #[command(flatten)]
    pub connections: DatabaseConnections,
}

/// The ports.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Ports")]
pub struct PortSettings {
    /// The address of the API; if not set, 0.0.0.0:8000, or 127.0.0.1:8000 if `HOLDFAST_AUTH` is off
    #[arg(long, env = "HOLDFAST_HTTP_ADDR", value_parser = address)]
    pub http_addr: Option<SocketAddr>,
    /// The address of /metrics, /livez and /readyz; keep it private
    #[arg(long, env = "HOLDFAST_METRICS_ADDR", default_value = "0.0.0.0:9464", value_parser = address)]
    pub metrics_addr: SocketAddr,
    /// The address of the admin port, where API keys and dead letters are managed; keep it private
    #[arg(long, env = "HOLDFAST_ADMIN_ADDR", default_value = "127.0.0.1:9463", value_parser = address)]
    pub admin_addr: SocketAddr,
    /// Whether the admin port has the console, a page for operators at /console
    #[arg(long, env = "HOLDFAST_CONSOLE", default_value = "off", value_enum)]
    pub console: ConsoleSwitch,
}

/// Whether the admin port has the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ConsoleSwitch {
    /// The admin port has the page `/console` and the endpoints that it uses.
    On,
    /// No console.
    Off,
}

/// PostgreSQL.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "PostgreSQL")]
pub struct DatabaseSettings {
    /// The PostgreSQL database, such as `postgres://user:password@host:5432/holdfast`; several servers are separated by
    /// commas (host1:5432,host2:5432), and the one that accepts writes is used
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: DatabaseUrl,
}

/// The number of connections to PostgreSQL, and timeouts. They are at the end of each help, because few users set
/// them.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connections to PostgreSQL")]
pub struct DatabaseConnections {
    /// Connections for everything but placing orders (1 to 1000)
    #[arg(long, env = "HOLDFAST_DB_POOL_SIZE", default_value = "8", value_parser = whole(1..=1000_u32))]
    pub db_pool_size: u32,
    /// Connections for placing orders: one for the shared lane, one for trying locked rows again, the others for
    /// products that several replicas sell at the same time (2 to 1000)
    #[arg(long, env = "HOLDFAST_DB_ADMISSION_CONNECTIONS", default_value = "4", value_parser = whole(2..=1000_u32))]
    pub db_admission_connections: u32,
    /// The longest wait for a free connection or a new one, in milliseconds (10 to 60000)
    #[arg(long = "db-acquire-timeout-ms", env = "HOLDFAST_DB_ACQUIRE_TIMEOUT_MS", default_value = "2000", value_parser = milliseconds(10..=60_000))]
    pub db_acquire_timeout: Duration,
    /// The longest wait for a row that another transaction has locked, in milliseconds; must be less than
    /// the statement timeout (1 to 60000)
    #[arg(long = "lock-timeout-ms", env = "HOLDFAST_LOCK_TIMEOUT_MS", default_value = "2000", value_parser = milliseconds(1..=60_000))]
    pub lock_timeout: Duration,
    /// The longest time for a statement, in milliseconds (10 to 600000)
    #[arg(long = "statement-timeout-ms", env = "HOLDFAST_STATEMENT_TIMEOUT_MS", default_value = "5000", value_parser = milliseconds(10..=600_000))]
    pub statement_timeout: Duration,
}

/// Redis and the read cache.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Redis")]
pub struct RedisCacheSettings {
    /// The Redis URL, such as `redis://:password@host:6379/0`, or of Sentinels or a cluster; see docs/operations.md
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: RedisUrl,
    /// For TLS (rediss URLs): a file with the CA certificates (PEM) that verify Redis; the system's CAs if not set
    #[arg(long = "redis-ca-file", env = "HOLDFAST_REDIS_CA_FILE")]
    pub redis_ca: Option<RedisCa>,
    /// The longest time for a call to Redis, in milliseconds (1 to 10000)
    #[arg(long = "redis-timeout-ms", env = "HOLDFAST_REDIS_TIMEOUT_MS", default_value = "50", value_parser = milliseconds(1..=10_000))]
    pub redis_timeout: Duration,
    /// The longest time for which an answer about a product may be out of date, even if Redis or another
    /// replica fails, in milliseconds (100 to 60000)
    #[arg(long = "cache-max-age-ms", env = "HOLDFAST_CACHE_MAX_AGE_MS", default_value = "2000", value_parser = milliseconds(100..=60_000))]
    pub cache_max_age: Duration,
    /// How long Redis keeps a product that does not change, in milliseconds (1000 to 86400000)
    #[arg(long = "cache-ttl-ms", env = "HOLDFAST_CACHE_TTL_MS", default_value = "300000", value_parser = milliseconds(1000..=86_400_000))]
    pub cache_ttl: Duration,
    /// The memory of this process for cached products, in bytes (0 to 17179869184)
    #[arg(long, env = "HOLDFAST_CACHE_BYTES", default_value = "33554432", value_parser = whole(0..=17_179_869_184_u64))]
    pub cache_bytes: u64,
}

/// Orders and admission.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Orders")]
pub struct OrderSettings {
    /// The most units of a product in one order (1 to 1000000)
    #[arg(long, env = "HOLDFAST_MAX_QUANTITY", default_value = "1000", value_parser = whole(1..=1_000_000_i32))]
    pub max_quantity: i32,
    /// The most lines of one order (1 to 500)
    #[arg(long, env = "HOLDFAST_MAX_LINES", default_value = "50", value_parser = whole(1..=500_usize))]
    pub max_lines: usize,
    /// The longest duration of a hold, in seconds (1 to 2592000)
    #[arg(long, env = "HOLDFAST_MAX_HOLD_SECONDS", default_value = "86400", value_parser = whole(1..=2_592_000_u64))]
    pub max_hold_seconds: u64,
    /// The most orders that wait in one lane; further ones get 503 (1 to 1000000)
    #[arg(long, env = "HOLDFAST_LANE_DEPTH", default_value = "4096", value_parser = whole(1..=1_000_000_usize))]
    pub lane_depth: usize,
    /// The most orders that share one transaction (1 to 4096)
    #[arg(long, env = "HOLDFAST_BATCH_MAX", default_value = "2048", value_parser = whole(1..=4096_usize))]
    pub batch_max: usize,
    /// The most product lanes that wait for their row in the database at the same time; further ones are tried
    /// again from time to time (1 to 10000)
    #[arg(long, env = "HOLDFAST_OWN_LANES_MAX", default_value = "64", value_parser = whole(1..=10_000_usize))]
    pub own_lanes_max: usize,
    /// The longest time that an order waits in its lane before it gets 503, in milliseconds (1 to 60000)
    #[arg(long = "lane-wait-max-ms", env = "HOLDFAST_LANE_WAIT_MAX_MS", default_value = "2000", value_parser = milliseconds(1..=60_000))]
    pub lane_wait_max: Duration,
    /// How long a product's own lane is kept when it has no work, in milliseconds (1 to 60000)
    #[arg(long = "own-lane-idle-ms", env = "HOLDFAST_OWN_LANE_IDLE_MS", default_value = "500", value_parser = milliseconds(1..=60_000))]
    pub own_lane_idle: Duration,
    /// The time between two searches for expired holds, in milliseconds (10 to 3600000)
    #[arg(long = "hold-expiry-interval-ms", env = "HOLDFAST_HOLD_EXPIRY_INTERVAL_MS", default_value = "1000", value_parser = milliseconds(10..=3_600_000))]
    pub hold_expiry_interval: Duration,
    /// How long to look for the outcome of a commit that was not answered, in milliseconds (100 to 120000)
    #[arg(long = "outcome-timeout-ms", env = "HOLDFAST_OUTCOME_TIMEOUT_MS", default_value = "10000", value_parser = milliseconds(100..=120_000))]
    pub outcome_timeout: Duration,
}

impl Together for ServeSettings {
    fn check(&self) -> Result<(), MustBe> {
        self.connections.check()?;
        self.cache.check()?;
        self.access.check()?;
        self.http.check()?;
        let open = |name, address: SocketAddr| {
            let here = address.ip().to_canonical().is_loopback();
            (!here && self.access.is_closed_to_network()).then(|| {
                MustBe::new(format!(
                    "{name} must be a loopback address such as 127.0.0.1:{} if HOLDFAST_AUTH is \
                     off, unless HOLDFAST_OPEN_TO_NETWORK is true: every client that reaches it \
                     may do everything there.",
                    address.port()
                ))
            })
        };
        open("HOLDFAST_HTTP_ADDR", self.http_addr())
            .or_else(|| open("HOLDFAST_ADMIN_ADDR", self.ports.admin_addr))
            .map_or(Ok(()), Err)
    }
}

impl ServeSettings {
    /// The settings of the database, with its read replicas.
    pub fn store(&self) -> StoreSettings {
        self.replicas.store(self.database.store(&self.connections))
    }

    /// Where the API listens.
    pub fn http_addr(&self) -> SocketAddr {
        let host = if self.access.is_closed_to_network() {
            Ipv4Addr::LOCALHOST
        } else {
            Ipv4Addr::UNSPECIFIED
        };
        self.ports.http_addr.unwrap_or_else(|| (host, HTTP_PORT).into())
    }
}

impl Together for DatabaseConnections {
    fn check(&self) -> Result<(), MustBe> {
        if self.lock_timeout < self.statement_timeout {
            return Ok(());
        }
        Err(MustBe::new(
            "HOLDFAST_LOCK_TIMEOUT_MS must be less than HOLDFAST_STATEMENT_TIMEOUT_MS; otherwise \
             a locked row looks like a slow statement.",
        ))
    }
}

impl Together for RedisCacheSettings {
    fn check(&self) -> Result<(), MustBe> {
        RedisCa::check(self.redis_ca.as_ref(), Some(&self.redis_url))
    }
}

impl DatabaseSettings {
    pub fn store(&self, connections: &DatabaseConnections) -> StoreSettings {
        StoreSettings {
            pool_size: connections.db_pool_size,
            admission_connections: connections.db_admission_connections,
            acquire_timeout: connections.db_acquire_timeout,
            lock_timeout: connections.lock_timeout,
            statement_timeout: connections.statement_timeout,
            ..self.database_url.settings()
        }
    }
}

impl RedisCacheSettings {
    pub fn cache(&self) -> holdfast_cache::CacheSettings {
        holdfast_cache::CacheSettings {
            ttl: self.cache_ttl,
            max_age: self.cache_max_age,
            op_timeout: self.redis_timeout,
            l1_bytes: self.cache_bytes,
            redis_ca: self.redis_ca.as_ref().map(RedisCa::pem),
            waits_for_database: true,
            ..holdfast_cache::CacheSettings::new(self.redis_url.as_str())
        }
    }

    pub fn queue(&self) -> QueueSettings {
        QueueSettings {
            redis_ca: self.redis_ca.as_ref().map(RedisCa::pem),
            ..QueueSettings::new(self.redis_url.as_str())
        }
    }
}

impl OrderSettings {
    /// The bounds of orders and holds.
    pub fn limits(&self) -> OrderLimits {
        OrderLimits {
            quantity: self.max_quantity,
            lines: self.max_lines,
            hold: Duration::from_secs(self.max_hold_seconds),
        }
    }

    /// The settings of admission. `lock_wait_max` is the longest wait for a row.
    pub fn admission(&self, lock_wait_max: Duration) -> AdmissionSettings {
        AdmissionSettings {
            lane_depth: self.lane_depth,
            batch_max: self.batch_max,
            own_lanes_max: self.own_lanes_max,
            wait_max: self.lane_wait_max,
            lock_wait_max,
            own_lane_idle: self.own_lane_idle,
            expiry_interval: self.hold_expiry_interval,
            outcome_timeout: self.outcome_timeout,
        }
    }
}
