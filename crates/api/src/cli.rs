//! The subcommands of `holdfast-api`.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use holdfast_store::Store;
use holdfast_telemetry::{
    Chain, TelemetrySettings, probe,
    settings::{address, milliseconds},
};

use crate::settings::{DatabaseSettings, ServeSettings};

/// The HTTP side of Holdfast: products with stock, and orders that take it.
#[derive(Debug, Parser)]
#[command(
    name = "holdfast-api",
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
    /// Serve the API until SIGTERM or Ctrl-C; a second one ends it at once
    Serve(Box<ServeSettings>),
    /// Bring the database's schema up to date
    Migrate(Box<MigrateSettings>),
    /// Print the OpenAPI document as JSON
    Openapi,
    /// Ask a server on this host whether it is well; exits with 0 if it is
    Healthcheck(HealthcheckSettings),
}

/// Settings of `migrate`.
#[derive(Debug, clap::Args)]
pub struct MigrateSettings {
    /// PostgreSQL.
    #[command(flatten)]
    pub database: DatabaseSettings,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetrySettings,
}

/// Settings of `healthcheck`.
#[derive(Debug, clap::Args)]
pub struct HealthcheckSettings {
    /// Where the server's internal port is
    #[arg(long, env = "HOLDFAST_METRICS_ADDR", default_value = "0.0.0.0:9464", value_parser = address)]
    pub metrics_addr: SocketAddr,
    /// Ask /readyz (does it want requests?) and not /livez (does it live?)
    #[arg(long)]
    pub ready: bool,
    /// The longest wait for an answer, in milliseconds (1 to 60000)
    #[arg(long = "timeout-ms", default_value = "2000", value_parser = milliseconds(1..=60_000))]
    pub timeout: Duration,
}

/// Does what the command line says.
pub fn run(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Serve(settings) => crate::serve::run(&settings),
        Command::Migrate(settings) => migrate(&settings),
        Command::Openapi => print_openapi(),
        Command::Healthcheck(settings) => healthcheck(&settings),
    }
}

fn migrate(settings: &MigrateSettings) -> ExitCode {
    in_runtime(&settings.telemetry, async {
        let store = Store::connect(&settings.database.store());
        store.migrate().await?;
        tracing::info!(version = Store::schema_version(), "the schema is up to date");
        Ok(())
    })
}

fn healthcheck(settings: &HealthcheckSettings) -> ExitCode {
    let path = if settings.ready { "/readyz" } else { "/livez" };
    let asked = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map(|runtime| runtime.block_on(probe(settings.metrics_addr, path, settings.timeout)));
    match asked {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

fn print_openapi() -> ExitCode {
    use std::io::Write as _;

    let document = match crate::openapi::document().to_pretty_json() {
        Ok(document) => document,
        Err(error) => return failed(&error),
    };
    match writeln!(std::io::stdout().lock(), "{document}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Runs a short task with logs, on one thread.
fn in_runtime(
    telemetry: &TelemetrySettings,
    task: impl Future<Output = anyhow::Result<()>>,
) -> ExitCode {
    let guard = match holdfast_telemetry::init("holdfast-api", telemetry) {
        Ok(guard) => guard,
        Err(error) => return failed(&error),
    };
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(task));
    drop(guard);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(error.as_ref()),
    }
}

/// One sentence on standard error, for whoever typed the command.
pub(crate) fn failed(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    eprintln!("holdfast-api: {}", Chain(error));
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests;
