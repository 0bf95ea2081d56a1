//! The settings of `run`. The doc comments are the help texts.

use std::{fmt, net::SocketAddr, time::Duration};

use clap::{ArgAction, Args, ValueEnum};
use holdfast_redis::{RedisCa, RedisUrl};
use holdfast_store::DatabaseUrl;
use holdfast_telemetry::{
    TelemetrySettings,
    settings::{MustBe, Together, address, at_most, milliseconds, needs, whole},
};

use crate::{
    Simulated, WorkerSettings,
    webhook::{ReceiverUrl, Secrets, WebhookSettings},
};

/// How long connecting to the receiver may take, unless it is set.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long requests to the receiver may still take at shutdown, unless it is set.
const WEBHOOK_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, Args)]
pub struct WorkerRunSettings {
    /// The PostgreSQL database, such as `postgres://user:password@host:5432/holdfast`; several servers are separated by
    /// commas (host1:5432,host2:5432), and the one that accepts writes is used
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: DatabaseUrl,
    /// The Redis URL, such as `redis://:password@host:6379/0`, or of Sentinels or a cluster; see docs/operations.md
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: RedisUrl,
    /// For TLS (rediss URLs): a file with the CA certificates (PEM) that verify Redis; the system's CAs if not set
    #[arg(long = "redis-ca-file", env = "HOLDFAST_REDIS_CA_FILE")]
    pub redis_ca: Option<RedisCa>,
    /// The address of /metrics, /livez and /readyz; keep it private
    #[arg(long, env = "HOLDFAST_METRICS_ADDR", default_value = "0.0.0.0:9464", value_parser = address)]
    pub metrics_addr: SocketAddr,
    /// The most connections to PostgreSQL (1 to 1000)
    #[arg(long, env = "HOLDFAST_DB_POOL_SIZE", default_value = "4", value_parser = whole(1..=1000_u32))]
    pub db_pool_size: u32,
    /// The most orders in flight at the same time (1 to 100000)
    #[arg(long, env = "HOLDFAST_WORKER_CONCURRENCY", default_value = "1024", value_parser = whole(1..=100_000_usize))]
    pub worker_concurrency: usize,
    /// The most orders that are read and claimed together (1 to 1024)
    #[arg(long, env = "HOLDFAST_WORKER_BATCH", default_value = "512", value_parser = whole(1..=1024_usize))]
    pub worker_batch: usize,
    /// How long a claim on an order is valid without being renewed, and so how long the orders of a
    /// worker that died wait for another worker, in milliseconds (100 to 3600000)
    #[arg(long = "lease-ms", env = "HOLDFAST_LEASE_MS", default_value = "30000", value_parser = milliseconds(100..=3_600_000))]
    pub lease: Duration,
    /// The most attempts before an order fails (1 to 1000)
    #[arg(long, env = "HOLDFAST_MAX_ATTEMPTS", default_value = "10", value_parser = whole(1..=1000_i32))]
    pub max_attempts: i32,
    /// For this long after an order was accepted or replayed, attempts that fail because the receiver
    /// is down do not count, in milliseconds (0 to 2592000000)
    #[arg(long = "retry-for-ms", env = "HOLDFAST_RETRY_FOR_MS", default_value = "86400000", value_parser = milliseconds(0..=2_592_000_000))]
    pub retry_for: Duration,
    /// The upper bound of the random delay after the first failed attempt, which doubles with each
    /// attempt, in milliseconds (1 to 3600000)
    #[arg(long = "retry-base-ms", env = "HOLDFAST_RETRY_BASE_MS", default_value = "1000", value_parser = milliseconds(1..=3_600_000))]
    pub retry_base: Duration,
    /// The longest delay between two attempts, in milliseconds (1 to 86400000)
    #[arg(long = "retry-max-ms", env = "HOLDFAST_RETRY_MAX_MS", default_value = "300000", value_parser = milliseconds(1..=86_400_000))]
    pub retry_max: Duration,
    /// How often the worker looks for lost orders and due retries, in milliseconds (10 to 3600000)
    #[arg(long = "sweep-interval-ms", env = "HOLDFAST_SWEEP_INTERVAL_MS", default_value = "1000", value_parser = milliseconds(10..=3_600_000))]
    pub sweep_interval: Duration,
    /// How long an order must have been pending to count as lost, in milliseconds (10 to 86400000)
    #[arg(long = "sweep-after-ms", env = "HOLDFAST_SWEEP_AFTER_MS", default_value = "10000", value_parser = milliseconds(10..=86_400_000))]
    pub sweep_after: Duration,
    /// How long idempotency keys are kept, in seconds (60 to 31536000)
    #[arg(long, env = "HOLDFAST_IDEMPOTENCY_SECONDS", default_value = "86400", value_parser = whole(60..=31_536_000_u64))]
    pub idempotency_seconds: u64,
    /// How orders are fulfilled
    #[arg(
        long = "fulfilment",
        env = "HOLDFAST_FULFILMENT",
        value_enum,
        default_value = "simulated"
    )]
    pub fulfilment_kind: FulfilmentKind,
    #[command(flatten)]
    pub webhook: WebhookArgs,
    /// How long the simulated fulfilment of an order takes, in milliseconds; 0 completes at once
    /// (0 to 3600000)
    #[arg(long = "fulfilment-ms", env = "HOLDFAST_FULFILMENT_MS", default_value = "500", value_parser = milliseconds(0..=3_600_000))]
    pub fulfilment: Duration,
    /// The percentage of simulated fulfilments that fail and are tried again (0 to 100)
    #[arg(long, env = "HOLDFAST_FULFILMENT_FAIL_PERCENT", default_value = "0", value_parser = whole(0..=100_u8))]
    pub fulfilment_fail_percent: u8,
    /// At shutdown: how long orders in flight may still take before they are handed back, in
    /// milliseconds (0 to 600000)
    #[arg(long = "shutdown-timeout-ms", env = "HOLDFAST_SHUTDOWN_TIMEOUT_MS", default_value = "20000", value_parser = milliseconds(0..=600_000))]
    pub shutdown_timeout: Duration,
    #[command(flatten)]
    pub telemetry: TelemetrySettings,
}

impl WorkerRunSettings {
    pub fn worker(&self) -> WorkerSettings {
        WorkerSettings {
            concurrency: self.worker_concurrency,
            batch: self.worker_batch,
            lease: self.lease,
            max_attempts: self.max_attempts,
            retry_for: self.retry_for,
            retry_base: self.retry_base,
            retry_max: self.retry_max,
            sweep_interval: self.sweep_interval,
            idempotency_age: Duration::from_secs(self.idempotency_seconds),
            sweep_after: self.sweep_after,
        }
    }

    /// # Errors
    /// A webhook setting is set, and orders would be completed without being sent.
    fn check_simulated(&self) -> Result<(), MustBe> {
        let is_webhook = self.fulfilment_kind == FulfilmentKind::Webhook;
        let webhook = ("HOLDFAST_FULFILMENT=webhook", is_webhook);
        needs(("HOLDFAST_WEBHOOK_URL", self.webhook.webhook_url.is_some()), webhook)?;
        needs(("HOLDFAST_WEBHOOK_SECRET", self.webhook.webhook_secret.is_some()), webhook)?;
        needs(("HOLDFAST_WEBHOOK_ALLOW_PRIVATE", self.webhook.webhook_allow_private), webhook)
    }

    /// # Errors
    /// A setting is missing or wrong.
    pub fn fulfilment(&self) -> Result<FulfilmentSettings, WrongSetting> {
        if self.fulfilment_kind == FulfilmentKind::Simulated {
            return Ok(FulfilmentSettings::Simulated(Simulated {
                duration: self.fulfilment,
                fail_percent: self.fulfilment_fail_percent,
            }));
        }
        let args = &self.webhook;
        let missing =
            |name| WrongSetting(format!("{name} must be set for HOLDFAST_FULFILMENT=webhook."));
        let target = args.webhook_url.clone().ok_or_else(|| missing("HOLDFAST_WEBHOOK_URL"))?;
        let secrets =
            args.webhook_secret.clone().ok_or_else(|| missing("HOLDFAST_WEBHOOK_SECRET"))?;
        if !args.webhook_allow_private {
            target
                .check_public()
                .map_err(|must| WrongSetting(format!("HOLDFAST_WEBHOOK_URL {must}.")))?;
        }
        Ok(FulfilmentSettings::Webhook(Box::new(WebhookSettings {
            target,
            secrets,
            timeout: args.webhook_timeout,
            connect_timeout: args
                .webhook_connect_timeout
                .unwrap_or(CONNECT_TIMEOUT.min(args.webhook_timeout)),
            shutdown_timeout: args
                .webhook_shutdown_timeout
                .unwrap_or(WEBHOOK_SHUTDOWN_TIMEOUT.min(self.shutdown_timeout)),
            connections: args.webhook_connections,
            orders: self.worker_concurrency,
            allow_private: args.webhook_allow_private,
            pause_base: self.retry_base,
            retry_after_max: self.retry_max,
        })))
    }
}

impl Together for WorkerRunSettings {
    fn check(&self) -> Result<(), MustBe> {
        let webhook = &self.webhook;
        self.check_simulated()?;
        RedisCa::check(self.redis_ca.as_ref(), Some(&self.redis_url))?;
        at_most(
            ("HOLDFAST_RETRY_BASE_MS", self.retry_base),
            ("HOLDFAST_RETRY_MAX_MS", self.retry_max),
        )?;
        let connect_timeout = webhook.webhook_connect_timeout.unwrap_or_default();
        at_most(
            ("HOLDFAST_WEBHOOK_CONNECT_TIMEOUT_MS", connect_timeout),
            ("HOLDFAST_WEBHOOK_TIMEOUT_MS", webhook.webhook_timeout),
        )?;
        let shutdown_timeout = webhook.webhook_shutdown_timeout.unwrap_or_default();
        at_most(
            ("HOLDFAST_WEBHOOK_SHUTDOWN_TIMEOUT_MS", shutdown_timeout),
            ("HOLDFAST_SHUTDOWN_TIMEOUT_MS", self.shutdown_timeout),
        )
    }
}

/// How orders are fulfilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FulfilmentKind {
    /// Only wait for a configured time, for demos and benchmarks
    Simulated,
    /// Send each order to a receiver by HTTP POST
    Webhook,
}

#[derive(Clone, Debug, Args)]
pub struct WebhookArgs {
    /// The receiver's URL, such as `https://shop.example/webhooks/orders`
    #[arg(long, env = "HOLDFAST_WEBHOOK_URL", hide_env_values = true)]
    pub webhook_url: Option<ReceiverUrl>,
    /// The secret that signs requests: whsec_ and base64, as in Standard Webhooks; during a rotation,
    /// the new and the old secret, separated by a space
    #[arg(long, env = "HOLDFAST_WEBHOOK_SECRET", hide_env_values = true)]
    pub webhook_secret: Option<Secrets>,
    /// How long the receiver may take to answer, in milliseconds (100 to 300000)
    #[arg(long = "webhook-timeout-ms", env = "HOLDFAST_WEBHOOK_TIMEOUT_MS", default_value = "15000", value_parser = milliseconds(100..=300_000))]
    pub webhook_timeout: Duration,
    /// How long connecting may take, as part of `HOLDFAST_WEBHOOK_TIMEOUT_MS`, in milliseconds; if
    /// not set, 5000 or that time, whichever is less (50 to 60000)
    #[arg(long = "webhook-connect-timeout-ms", env = "HOLDFAST_WEBHOOK_CONNECT_TIMEOUT_MS", value_parser = milliseconds(50..=60_000))]
    pub webhook_connect_timeout: Option<Duration>,
    /// At shutdown: how long requests to the receiver may still take, as part of
    /// `HOLDFAST_SHUTDOWN_TIMEOUT_MS`, before their orders are handed back and another worker sends
    /// them again with the same id, in milliseconds; if not set, 5000 or that time, whichever is less
    /// (0 to 600000)
    #[arg(long = "webhook-shutdown-timeout-ms", env = "HOLDFAST_WEBHOOK_SHUTDOWN_TIMEOUT_MS", value_parser = milliseconds(0..=600_000))]
    pub webhook_shutdown_timeout: Option<Duration>,
    /// The most concurrent requests to the receiver (1 to 1000)
    #[arg(long, env = "HOLDFAST_WEBHOOK_CONNECTIONS", default_value = "64", value_parser = whole(1..=1000_usize))]
    pub webhook_connections: usize,
    /// Whether the receiver may have a private address or use plain HTTP
    #[arg(long, env = "HOLDFAST_WEBHOOK_ALLOW_PRIVATE", default_value = "false", action = ArgAction::Set)]
    pub webhook_allow_private: bool,
}

/// The settings of the chosen fulfilment.
#[derive(Clone, Debug)]
pub enum FulfilmentSettings {
    Simulated(Simulated),
    Webhook(Box<WebhookSettings>),
}

impl fmt::Display for FulfilmentSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simulated(_) => f.write_str("simulated"),
            Self::Webhook(webhook) => write!(f, "webhook to {}", webhook.target.origin()),
        }
    }
}

/// A sentence that names the setting.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct WrongSetting(String);
