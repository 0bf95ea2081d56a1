//! The settings of `run`. Each doc comment is a help text.

use std::{fmt, net::SocketAddr, time::Duration};

use clap::{ArgAction, Args, ValueEnum};
use holdfast_store::DatabaseUrl;
use holdfast_telemetry::{
    RedisCa, RedisUrl, TelemetrySettings,
    settings::{address, milliseconds, whole},
};

use crate::{
    Simulated, WorkerSettings,
    webhook::{Secrets, Target, WebhookSettings},
};

/// Everything that `run` can be told.
#[derive(Clone, Debug, Args)]
pub struct RunSettings {
    /// The database, such as <postgres://user:password@host:5432/holdfast>
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: DatabaseUrl,
    /// Redis, such as <redis://:password@host:6379/0>
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: RedisUrl,
    /// For TLS, with a rediss URL: a file with the certificates (PEM) of the authorities by which
    /// Redis is known; those of the system unless set
    #[arg(long = "redis-ca-file", env = "HOLDFAST_REDIS_CA_FILE")]
    pub redis_ca: Option<RedisCa>,
    /// Where /metrics, /livez and /readyz listen; not for the public
    #[arg(long, env = "HOLDFAST_METRICS_ADDR", default_value = "0.0.0.0:9464", value_parser = address)]
    pub metrics_addr: SocketAddr,
    /// Connections to the database (1 to 1000)
    #[arg(long, env = "HOLDFAST_DB_POOL_SIZE", default_value = "4", value_parser = whole(1..=1000_u32))]
    pub db_pool_size: u32,
    /// The most orders in hand at the same time (1 to 100000)
    #[arg(long, env = "HOLDFAST_WORKER_CONCURRENCY", default_value = "1024", value_parser = whole(1..=100_000_usize))]
    pub worker_concurrency: usize,
    /// The most orders that are read and claimed in one step (1 to 1024)
    #[arg(long, env = "HOLDFAST_WORKER_BATCH", default_value = "512", value_parser = whole(1..=1024_usize))]
    pub worker_batch: usize,
    /// How long a claim on an order holds without being renewed, and so how long the orders of a
    /// worker that died wait for another, in milliseconds (100 to 3600000)
    #[arg(long = "lease-ms", env = "HOLDFAST_LEASE_MS", default_value = "30000", value_parser = milliseconds(100..=3_600_000))]
    pub lease: Duration,
    /// How often an order is tried before it has failed (1 to 1000)
    #[arg(long, env = "HOLDFAST_MAX_ATTEMPTS", default_value = "10", value_parser = whole(1..=1000_i32))]
    pub max_attempts: i32,
    /// For so long after an order was accepted or replayed, tries do not count that fail because its
    /// receiver is down, in milliseconds (0 to 2592000000)
    #[arg(long = "retry-for-ms", env = "HOLDFAST_RETRY_FOR_MS", default_value = "86400000", value_parser = milliseconds(0..=2_592_000_000))]
    pub retry_for: Duration,
    /// The ceiling of the random wait after the first failed try; it doubles with each, in
    /// milliseconds (1 to 3600000)
    #[arg(long = "retry-base-ms", env = "HOLDFAST_RETRY_BASE_MS", default_value = "1000", value_parser = milliseconds(1..=3_600_000))]
    pub retry_base: Duration,
    /// The longest wait between two tries, in milliseconds (1 to 86400000)
    #[arg(long = "retry-max-ms", env = "HOLDFAST_RETRY_MAX_MS", default_value = "300000", value_parser = milliseconds(1..=86_400_000))]
    pub retry_max: Duration,
    /// How often lost orders and due retries are looked for, in milliseconds (10 to 3600000)
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
    /// Settings of the webhook.
    #[command(flatten)]
    pub webhook: WebhookArgs,
    /// How long the simulated fulfilment of an order takes, in milliseconds; 0 is no work at all
    /// (0 to 3600000)
    #[arg(long = "fulfilment-ms", env = "HOLDFAST_FULFILMENT_MS", default_value = "500", value_parser = milliseconds(0..=3_600_000))]
    pub fulfilment: Duration,
    /// How many of a hundred simulated fulfilments fail and are tried again (0 to 100)
    #[arg(long, env = "HOLDFAST_FULFILMENT_FAIL_PERCENT", default_value = "0", value_parser = whole(0..=100_u8))]
    pub fulfilment_fail_percent: u8,
    /// At the end: how long orders in hand may still take before they are handed back, in
    /// milliseconds (0 to 600000)
    #[arg(long = "shutdown-timeout-ms", env = "HOLDFAST_SHUTDOWN_TIMEOUT_MS", default_value = "20000", value_parser = milliseconds(0..=600_000))]
    pub shutdown_timeout: Duration,
    /// Logs and traces.
    #[command(flatten)]
    pub telemetry: TelemetrySettings,
}

impl RunSettings {
    /// The bounds of the worker.
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

    /// How orders are fulfilled, with the settings that belong to it.
    ///
    /// # Errors
    /// One sentence that names the setting that is missing or wrong.
    pub fn fulfilling(&self) -> Result<Fulfilling, WrongSetting> {
        if self.fulfilment_kind == FulfilmentKind::Simulated {
            return Ok(Fulfilling::Simulated(Simulated {
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
        Ok(Fulfilling::Webhook(Box::new(WebhookSettings {
            target,
            secrets,
            timeout: args.webhook_timeout,
            connect_timeout: args.webhook_connect_timeout,
            shutdown_timeout: args.webhook_shutdown_timeout,
            connections: args.webhook_connections,
            allow_private: args.webhook_allow_private,
            pause_base: self.retry_base,
            retry_after_max: self.retry_max,
        })))
    }
}

/// How orders are fulfilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FulfilmentKind {
    /// Not at all: it takes a set time, for demos and benchmarks
    Simulated,
    /// By somebody who is told by HTTP POST, at the webhook's address
    Webhook,
}

/// Everything that the webhook can be told.
#[derive(Clone, Debug, Args)]
pub struct WebhookArgs {
    /// Where orders are sent, such as <https://shop.example/webhooks/orders>
    #[arg(long, env = "HOLDFAST_WEBHOOK_URL", hide_env_values = true)]
    pub webhook_url: Option<Target>,
    /// The secret that requests are signed with: whsec_ and base64, per Standard Webhooks; while it
    /// is changed, the new one and the old one, separated by a space
    #[arg(long, env = "HOLDFAST_WEBHOOK_SECRET", hide_env_values = true)]
    pub webhook_secret: Option<Secrets>,
    /// The longest that the receiver may take to answer, in milliseconds (100 to 300000)
    #[arg(long = "webhook-timeout-ms", env = "HOLDFAST_WEBHOOK_TIMEOUT_MS", default_value = "15000", value_parser = milliseconds(100..=300_000))]
    pub webhook_timeout: Duration,
    /// The longest that connecting may take, of that, in milliseconds (50 to 60000)
    #[arg(long = "webhook-connect-timeout-ms", env = "HOLDFAST_WEBHOOK_CONNECT_TIMEOUT_MS", default_value = "5000", value_parser = milliseconds(50..=60_000))]
    pub webhook_connect_timeout: Duration,
    /// At the end: how long requests to the receiver may still take before their orders are handed back,
    /// of `HOLDFAST_SHUTDOWN_TIMEOUT_MS`, in milliseconds; they are sent again, with the same id (0 to
    /// 600000)
    #[arg(long = "webhook-shutdown-timeout-ms", env = "HOLDFAST_WEBHOOK_SHUTDOWN_TIMEOUT_MS", default_value = "5000", value_parser = milliseconds(0..=600_000))]
    pub webhook_shutdown_timeout: Duration,
    /// The most requests to the receiver at the same time (1 to 1000)
    #[arg(long, env = "HOLDFAST_WEBHOOK_CONNECTIONS", default_value = "64", value_parser = whole(1..=1000_usize))]
    pub webhook_connections: usize,
    /// Whether the receiver may be within the private network, and spoken to by plain HTTP
    #[arg(long, env = "HOLDFAST_WEBHOOK_ALLOW_PRIVATE", default_value = "false", action = ArgAction::Set)]
    pub webhook_allow_private: bool,
}

/// How orders are fulfilled, ready to be begun.
#[derive(Clone, Debug)]
pub enum Fulfilling {
    /// For demos.
    Simulated(Simulated),
    /// By somebody else.
    Webhook(Box<WebhookSettings>),
}

impl fmt::Display for Fulfilling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simulated(_) => f.write_str("simulated"),
            Self::Webhook(webhook) => write!(f, "webhook to {}", webhook.target.origin()),
        }
    }
}

/// A setting is missing or wrong, in one sentence that names it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct WrongSetting(String);
