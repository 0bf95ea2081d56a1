//! The subcommands of `holdfast-api`.

use std::{process::ExitCode, time::Duration};

use clap::{CommandFactory as _, Parser, Subcommand};
use holdfast_store::{SchemaError, Store, StoreSettings};
use holdfast_telemetry::{
    Chain, CommandLogs,
    command::{self, Ended, HELP_END},
    settings::{MustBe, Together, milliseconds},
};
use tokio::time::Instant;

mod archive;
mod dead_letters;
mod doctor;
mod keys;
mod output;
mod progress;
mod results;
mod yaml;

use crate::{
    endpoint::Surface,
    serve::PROGRAM,
    settings::{DatabaseConnections, DatabaseSettings, ServeSettings},
};

/// The time between two attempts to connect to a database that is not up yet.
const WAIT_STEP: Duration = Duration::from_secs(1);

/// The Holdfast API: products with stock, and orders that take it
#[derive(Debug, Parser)]
#[command(
    name = "holdfast-api",
    version,
    about,
    after_help = HELP_END
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API until SIGTERM or Ctrl-C; a second signal stops the process immediately
    Serve(Box<ServeSettings>),
    /// Bring the database's schema up to date
    Migrate(Box<MigrateSettings>),
    /// Print the OpenAPI document as JSON
    Openapi(OpenapiSettings),
    /// Create, list and revoke API keys
    Keys(Box<keys::KeysSettings>),
    /// List, replay and discard dead letters: orders that could not be fulfilled
    DeadLetters(Box<dead_letters::DeadLetterSettings>),
    /// Move old completed and cancelled orders from the database to files
    Archive(Box<archive::ArchiveSettings>),
    /// Check whether a server on this host is healthy; exits with 0 if it is
    Healthcheck(command::Healthcheck),
    /// Check the settings, PostgreSQL and Redis, and print how to fix what is wrong
    Doctor(Box<doctor::DoctorSettings>),
    /// Print a script that completes commands and flags in a shell
    Completion(command::Completion),
    /// Print all settings as a Markdown page
    Settings,
    /// Print all metrics with their initial values
    #[command(hide = true)]
    Metrics(command::PrintMetrics),
}

/// Settings of `openapi`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct OpenapiSettings {
    /// Print the document of the admin port instead
    #[arg(long)]
    pub admin: bool,
}

/// Settings of `migrate`.
#[derive(Debug, clap::Args)]
pub struct MigrateSettings {
    /// How long to wait for a database that cannot be reached yet, in milliseconds
    /// (0 to 86400000)
    #[arg(long = "wait-ms", env = "HOLDFAST_MIGRATE_WAIT_MS", default_value = "0", value_parser = milliseconds(0..=86_400_000))]
    pub wait: Duration,
    /// The database.
    #[command(flatten)]
    pub database: CommandDatabase,
}

/// The database and the log of a command.
#[derive(Debug, clap::Args)]
pub struct CommandDatabase {
    /// PostgreSQL.
    #[command(flatten)]
    database: DatabaseSettings,
    /// Logs.
    #[command(flatten)]
    logs: CommandLogs,
    /// Connections to PostgreSQL.
    #[command(flatten)]
    connections: DatabaseConnections,
}

impl CommandDatabase {
    /// Runs a command on the database.
    fn run(&self, act: impl AsyncFnOnce(Store) -> anyhow::Result<Ended>) -> ExitCode {
        let database = self.database.store(&self.connections);
        in_runtime(&self.logs, &database, async { act(Store::connect(&database)).await })
    }
}

impl Together for CommandDatabase {
    fn check(&self) -> Result<(), MustBe> {
        self.connections.check()
    }
}

impl Together for Cli {
    fn check(&self) -> Result<(), MustBe> {
        match &self.command {
            Command::Serve(settings) => settings.check(),
            Command::Migrate(settings) => settings.database.check(),
            Command::Keys(settings) => settings.check(),
            Command::DeadLetters(settings) => settings.check(),
            Command::Archive(settings) => settings.check(),
            // It reports what is wrong itself.
            Command::Doctor(_)
            | Command::Openapi(_)
            | Command::Healthcheck(_)
            | Command::Completion(_)
            | Command::Settings
            | Command::Metrics(_) => Ok(()),
        }
    }
}

/// Runs the command.
pub fn run(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Serve(settings) => crate::serve::run(&settings),
        Command::Migrate(settings) => migrate(&settings),
        Command::Openapi(settings) => print_openapi(settings),
        Command::Keys(settings) => keys::run(*settings),
        Command::DeadLetters(settings) => dead_letters::run(*settings),
        Command::Archive(settings) => archive::run(*settings),
        Command::Healthcheck(healthcheck) => healthcheck.run(PROGRAM),
        Command::Doctor(settings) => doctor::run(&settings),
        Command::Completion(completion) => completion.run(Cli::command()),
        Command::Settings => command::print_settings(Cli::command()),
        Command::Metrics(print) => print.run(PROGRAM, || Ok(crate::metrics_page::metrics()?)),
    }
}

fn migrate(settings: &MigrateSettings) -> ExitCode {
    settings.database.run(async |store| {
        reachable(&store, settings.wait).await;
        store.check_pooler().await?;
        let bar = progress::spinner("migrating");
        let applied = store.migrate().await?;
        bar.finish_and_clear();
        let version = Store::schema_version();
        output::line(&match applied {
            0 => format!("The schema is up to date: version {version}."),
            1 => format!("The schema is up to date: version {version}. 1 migration was applied."),
            _ => format!(
                "The schema is up to date: version {version}. {applied} migrations were applied."
            ),
        })?;
        Ok(Ended::Done)
    })
}

/// Returns when the database answers or the time is over. In the second case, the migration reports the error.
async fn reachable(store: &Store, limit: Duration) {
    let end = Instant::now() + limit;
    while let Err(SchemaError::Store(error)) = store.check_schema().await
        && !error.is_pooler()
        && Instant::now() < end
    {
        tracing::warn!(error = %Chain(&error), "waiting for the database");
        tokio::time::sleep_until(end.min(Instant::now() + WAIT_STEP)).await;
    }
}

fn print_openapi(settings: OpenapiSettings) -> ExitCode {
    // The ports of `make run`.
    let (surface, server) = if settings.admin {
        (Surface::Admin, "http://localhost:9463")
    } else {
        (Surface::Public, "http://localhost:8000")
    };
    match crate::openapi::document(surface, server).to_pretty_json() {
        Ok(document) => command::print(PROGRAM, format!("{document}\n").as_bytes()),
        Err(error) => failed(&error),
    }
}

/// Reads the answer of an endpoint into a type with known fields. Data from clients is skipped or kept as text.
#[allow(clippy::disallowed_methods)] // nothing here reads arbitrary JSON
fn of_endpoint<'t, T: serde::Deserialize<'t>>(text: &'t str) -> serde_json::Result<T> {
    serde_json::from_str(text)
}

/// Runs a short task with logs, on one thread. A database error names the database.
fn in_runtime(
    logs: &CommandLogs,
    database: &StoreSettings,
    task: impl Future<Output = anyhow::Result<Ended>>,
) -> ExitCode {
    if let Err(error) = holdfast_telemetry::init_command(logs) {
        return failed(&error);
    }
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(task));
    match done {
        Ok(ended) => ended.into(),
        Err(error) => {
            let ended = output::ended_by(&error);
            if let Some(ended) = ended {
                let of_database = if output::is_of_database(&error) {
                    format!("{}: ", database.place())
                } else {
                    String::new()
                };
                eprintln!("{PROGRAM}: {of_database}{}", Chain(error.as_ref()));
                return ended.into();
            }
            // The reader has closed the output, as `head` does.
            ExitCode::SUCCESS
        }
    }
}

fn failed(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    command::failed(PROGRAM, error)
}

#[cfg(test)]
mod tests;
