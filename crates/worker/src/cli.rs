//! The subcommands of `holdfast-worker`. Each doc comment is a help text.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use holdfast_queue::{Queue, QueueSettings};
use holdfast_store::{Store, StoreSettings};
use holdfast_telemetry::{InternalServer, Readiness, RedisCa, command, log_level};
use prometheus::Registry;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    Worker,
    run::WorkerError,
    settings::{Fulfilling, RunSettings},
    webhook::Webhook,
};

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
    /// Print all settings as a page for people
    Settings,
    /// Print every metric with its help, its labels and the values before any work
    #[command(hide = true)]
    Metrics,
}

/// Does what the command line says.
pub fn run(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Run(settings) => work(&settings),
        Command::Healthcheck(healthcheck) => healthcheck.run(PROGRAM),
        Command::Settings => command::print_settings(Cli::command()),
        Command::Metrics => command::print_page(PROGRAM, crate::metrics_page::metrics_page),
    }
}

fn work(settings: &RunSettings) -> ExitCode {
    let fulfilling = match settings.fulfilling() {
        Ok(fulfilling) => fulfilling,
        Err(sentence) => return failed(&sentence),
    };
    let guard = match holdfast_telemetry::init("holdfast-worker", &settings.telemetry) {
        Ok(guard) => guard,
        Err(error) => return failed(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let ended = runtime.block_on(until_signal(settings, fulfilling));
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
async fn until_signal(settings: &RunSettings, fulfilling: Fulfilling) -> anyhow::Result<bool> {
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
    let queue = Queue::connect(QueueSettings {
        redis_ca: settings.redis_ca.as_ref().map(RedisCa::pem),
        ..QueueSettings::new(settings.redis_url.as_str())
    })?;
    let readiness = Readiness::default();
    let target = fulfilling.to_string();
    let worker = start(settings, fulfilling, &store, queue, &registry, &readiness)?;
    tracing::info!(
        metrics = %internal.address(),
        version = env!("CARGO_PKG_VERSION"),
        fulfilment = target,
        "started"
    );
    tokio::spawn(internal.serve(registry, readiness));
    tokio::spawn(log_level::follow_signals(&settings.telemetry.log)?);

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

fn start(
    settings: &RunSettings,
    fulfilling: Fulfilling,
    store: &Store,
    queue: Queue,
    registry: &Registry,
    readiness: &Readiness,
) -> anyhow::Result<Worker> {
    let (worker, store, readiness) = (settings.worker(), store.clone(), readiness.clone());
    let started: Result<_, WorkerError> = match fulfilling {
        Fulfilling::Simulated(simulated) => {
            Worker::start(worker, store, queue, simulated, registry, readiness)
        }
        Fulfilling::Webhook(webhook) => {
            let webhook = Webhook::new(*webhook, registry)?;
            Worker::start(worker, store, queue, webhook, registry, readiness)
        }
    };
    Ok(started?)
}

fn failed(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    command::failed(PROGRAM, error)
}
