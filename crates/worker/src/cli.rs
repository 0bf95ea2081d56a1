//! The subcommands of `holdfast-worker`. The doc comments are the help texts.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use holdfast_queue::{Queue, QueueSettings};
use holdfast_redis::RedisCa;
use holdfast_store::{Store, StoreSettings};
use holdfast_telemetry::{
    InternalServer, Readiness, Registry,
    command::{self, Ended, HELP_END},
    log_level,
    program::{self, StopSignals},
    settings::{MustBe, Together},
};

use crate::{
    Worker,
    run::WorkerError,
    settings::{FulfilmentSettings, WorkerRunSettings},
    webhook::Webhook,
};

const PROGRAM: &str = "holdfast-worker";

/// The Holdfast worker: fulfils orders, and finds lost ones
#[derive(Debug, Parser)]
#[command(
    name = "holdfast-worker",
    version,
    about,
    after_help = HELP_END
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fulfil orders until SIGTERM or Ctrl-C; a second signal stops the process
    /// immediately
    Run(Box<WorkerRunSettings>),
    /// Check whether a worker on this host is healthy; exits with 0 if it is
    Healthcheck(command::Healthcheck),
    /// Print a script that completes commands and flags in a shell
    Completion(command::Completion),
    /// Print all settings as a Markdown page
    Settings,
    /// Print all metrics with their initial values
    #[command(hide = true)]
    Metrics(command::PrintMetrics),
}

impl Together for Cli {
    fn check(&self) -> Result<(), MustBe> {
        match &self.command {
            Command::Run(settings) => settings.check(),
            Command::Healthcheck(_)
            | Command::Completion(_)
            | Command::Settings
            | Command::Metrics(_) => Ok(()),
        }
    }
}

pub fn run(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Run(settings) => work(&settings),
        Command::Healthcheck(healthcheck) => healthcheck.run(PROGRAM),
        Command::Completion(completion) => completion.run(Cli::command()),
        Command::Settings => command::print_settings(Cli::command()),
        Command::Metrics(print) => print.run(PROGRAM, || Ok(crate::metrics::all()?)),
    }
}

fn work(settings: &WorkerRunSettings) -> ExitCode {
    let fulfilment = match settings.fulfilment() {
        Ok(fulfilment) => fulfilment,
        Err(sentence) => return command::refused(PROGRAM, &sentence),
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    program::run(PROGRAM, &settings.telemetry, &mut runtime, until_signal(settings, fulfilment))
}

/// Runs until a signal, and then until the orders in flight are finished or handed back.
async fn until_signal(
    settings: &WorkerRunSettings,
    fulfilment: FulfilmentSettings,
) -> anyhow::Result<Ended> {
    let mut signals = StopSignals::listen()?;
    let registry = holdfast_telemetry::registry("worker", env!("CARGO_PKG_VERSION"))?;
    let internal = InternalServer::bind(settings.metrics_addr).await.with_context(|| {
        format!(
            "cannot listen on {}; set HOLDFAST_METRICS_ADDR to another address",
            settings.metrics_addr
        )
    })?;
    let store = Store::connect(&StoreSettings {
        pool_size: settings.db_pool_size,
        ..settings.database_url.settings()
    });
    store.check_pooler().await.context("DATABASE_URL")?;
    let queue = Queue::connect(QueueSettings {
        redis_ca: settings.redis_ca.as_ref().map(RedisCa::pem),
        ..QueueSettings::new(settings.redis_url.as_str())
    })?;
    let readiness = Readiness::default();
    let target = fulfilment.to_string();
    let worker = start(settings, fulfilment, &store, queue, &registry, &readiness)?;
    tracing::info!(
        metrics = %internal.address(),
        version = env!("CARGO_PKG_VERSION"),
        fulfilment = target,
        "started"
    );
    tokio::spawn(internal.serve(registry, readiness));
    tokio::spawn(log_level::follow_signals(&settings.telemetry.log)?);

    signals.next().await;
    tracing::info!("shutting down: no more orders are started");
    tokio::select! {
        finished = worker.shutdown(settings.shutdown_timeout) => {
            store.close().await;
            tracing::info!(finished, "shut down");
            // Otherwise some orders were handed back.
            Ok(if finished { Ended::Done } else { Ended::Partly })
        }
        () = signals.next() => anyhow::bail!("stopped immediately by a second signal"),
    }
}

fn start(
    settings: &WorkerRunSettings,
    fulfilment: FulfilmentSettings,
    store: &Store,
    queue: Queue,
    registry: &Registry,
    readiness: &Readiness,
) -> anyhow::Result<Worker> {
    let (worker, store, readiness) = (settings.worker(), store.clone(), readiness.clone());
    let started: Result<_, WorkerError> = match fulfilment {
        FulfilmentSettings::Simulated(simulated) => {
            Worker::start(worker, store, queue, simulated, registry, readiness)
        }
        FulfilmentSettings::Webhook(webhook) => {
            let webhook = Webhook::new(*webhook, registry)?;
            Worker::start(worker, store, queue, webhook, registry, readiness)
        }
    };
    Ok(started?)
}
