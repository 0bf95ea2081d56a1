//! The subcommands of `holdfast-worker`, and their settings. Each doc comment is a help text.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use holdfast_queue::{Queue, QueueSettings};
use holdfast_store::{DatabaseUrl, Store, StoreSettings};
use holdfast_telemetry::{
    InternalServer, Readiness, RedisUrl, TelemetrySettings, command,
    settings::{address, milliseconds, whole},
};
use tokio::signal::unix::{SignalKind, signal};

use crate::{Simulated, Worker, WorkerSettings};

const PROGRAM: &str = "holdfast-worker";
/// How long the last traces may take to be sent.
const FLUSH_TIME: Duration = Duration::from_secs(2);

/// The workers of Holdfast: they fulfil orders, and find those that were lost.
#[derive(Debug, Parser)]
#[command(
    name = "holdfast-worker",
    version,
    about,
    after_help = "Each setting is a flag or an environment variable; the flag wins. A variable that is set must be right."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Work until SIGTERM or Ctrl-C; a second one ends it at once
    Run(Box<RunSettings>),
    /// Ask a worker on this host whether it is well; exits with 0 if it is
    Healthcheck(command::Healthcheck),
}

/// Everything that `run` can be told.
#[derive(Clone, Debug, Args)]
pub struct RunSettings {
    /// The database, such as <postgres://user:password@host:5432/holdfast>
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: DatabaseUrl,
    /// Redis, such as <redis://:password@host:6379/0>
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: RedisUrl,
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
    fn worker(&self) -> WorkerSettings {
        WorkerSettings {
            concurrency: self.worker_concurrency,
            batch: self.worker_batch,
            lease: self.lease,
            max_attempts: self.max_attempts,
            retry_base: self.retry_base,
            retry_max: self.retry_max,
            sweep_interval: self.sweep_interval,
            idempotency_age: Duration::from_secs(self.idempotency_seconds),
            sweep_after: self.sweep_after,
        }
    }
}

/// Does what the command line says.
pub fn run(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Run(settings) => work(&settings),
        Command::Healthcheck(healthcheck) => healthcheck.run(PROGRAM),
    }
}

fn work(settings: &RunSettings) -> ExitCode {
    let guard = match holdfast_telemetry::init("holdfast-worker", &settings.telemetry) {
        Ok(guard) => guard,
        Err(error) => return failed(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let ended = runtime.block_on(until_signal(settings));
    // Nothing that still runs in it matters any more.
    runtime.shutdown_background();
    guard.shutdown(FLUSH_TIME);
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        // Orders were handed back.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failed(error.as_ref()),
    }
}

/// Whether everything in hand was finished.
async fn until_signal(settings: &RunSettings) -> anyhow::Result<bool> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let registry = holdfast_telemetry::registry("worker", env!("CARGO_PKG_VERSION"))?;
    let internal = InternalServer::bind(settings.metrics_addr).await.with_context(|| {
        format!(
            "{} cannot be listened on; HOLDFAST_METRICS_ADDR names another",
            settings.metrics_addr
        )
    })?;
    let store = Store::connect(&StoreSettings {
        pool_size: settings.db_pool_size,
        ..settings.database_url.settings()
    });
    let queue = Queue::connect(QueueSettings::new(settings.redis_url.as_str()))?;
    let fulfilment =
        Simulated { duration: settings.fulfilment, fail_percent: settings.fulfilment_fail_percent };
    let readiness = Readiness::default();
    let worker = Worker::start(
        settings.worker(),
        store.clone(),
        queue,
        fulfilment,
        &registry,
        readiness.clone(),
    )?;
    tracing::info!(
        metrics = %internal.address(),
        version = env!("CARGO_PKG_VERSION"),
        "started"
    );
    tokio::spawn(internal.serve(registry, readiness));

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("ending: nothing new is begun");
    tokio::select! {
        finished = worker.shutdown(settings.shutdown_timeout) => {
            store.close().await;
            tracing::info!(finished, "ended");
            Ok(finished)
        }
        _ = terminate.recv() => anyhow::bail!("a second signal ended it at once"),
        _ = interrupt.recv() => anyhow::bail!("a second signal ended it at once"),
    }
}

fn failed(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    command::failed(PROGRAM, error)
}
