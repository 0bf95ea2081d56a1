//! `holdfast-sandbox`: runs Holdfast and its servers with one command.
#![allow(clippy::disallowed_methods)] // never shipped, and reads what its own programs wrote

mod demo;
mod environment;
mod graphs;
mod listen;
mod log_watch;
mod run;
mod servers;
mod signals;
mod stack;
mod terminal;
mod with_database;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(version, about = "Runs Holdfast with a private PostgreSQL and Redis on this machine")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start PostgreSQL, Redis, the API and the worker with demo products, until Ctrl-C.
    Run(run::RunOptions),
    /// Start only PostgreSQL and Redis and print their addresses, until Ctrl-C.
    Servers,
    /// Start PostgreSQL, create the tables, and run a command with the database in `DATABASE_URL`.
    WithDatabase(with_database::DatabaseOptions),
    /// Stop servers and remove folders of killed sandboxes.
    Sweep,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(options) => run::run(&options).await,
        Command::Servers => servers::run().await,
        Command::WithDatabase(options) => with_database::run(options).await,
        Command::Sweep => holdfast_sandbox::sweep().map(|removed| {
            terminal::say(&format!("{removed} stale folders removed"));
            ExitCode::SUCCESS
        }),
    };
    done.unwrap_or_else(|error| {
        terminal::complain(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}
