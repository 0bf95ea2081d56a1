//! `holdfast-sandbox with-database`: runs a command with a database that has tables, in `DATABASE_URL`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Args;
use holdfast_sandbox::{Postgres, PostgresOptions};
use sqlx::{ConnectOptions as _, migrate::Migrator, postgres::PgConnectOptions};
use tokio::process;

#[derive(Debug, Args)]
pub(crate) struct DatabaseOptions {
    /// The folder with the migrations that create the tables
    #[arg(long, value_name = "FOLDER")]
    migrations: PathBuf,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

pub(crate) async fn run(options: DatabaseOptions) -> anyhow::Result<ExitCode> {
    let postgres = Postgres::start(PostgresOptions::default()).await?;
    let url = postgres.url();
    let mut connection = url.parse::<PgConnectOptions>()?.connect().await?;
    let migrator = Migrator::new(options.migrations).await?;
    migrator.run(&mut connection).await?;
    drop(connection);
    let (program, arguments) = options.command.split_first().context("there is no command")?;
    let ended =
        process::Command::new(program).args(arguments).env("DATABASE_URL", url).status().await?;
    let code = ended.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
