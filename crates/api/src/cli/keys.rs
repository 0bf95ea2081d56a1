//! `holdfast-api keys`: API keys from the command line, straight in the database: the first key has no key to ask with.

use std::{io::Write as _, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use holdfast_domain::{CustomerRef, Invalid, KeyName};
use holdfast_store::Store;
use holdfast_telemetry::{TelemetrySettings, settings::MustBe};
use jiff::Timestamp;

use crate::{
    access::{Scope, Scopes},
    api_keys::{self, KeyBody, KeyRequest},
    settings::DatabaseSettings,
};

/// Between two pages of the list.
const PAGE: i64 = 1_000;

/// Settings of `keys`.
#[derive(Debug, Args)]
pub struct KeysSettings {
    /// What to do with them.
    #[command(subcommand)]
    pub action: KeysCommand,
    /// PostgreSQL.
    #[command(flatten)]
    pub database: DatabaseSettings,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetrySettings,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it: the only time that it is shown
    Create {
        /// What it is for, such as "web shop"
        #[arg(long, value_parser = name)]
        name: KeyName,
        /// What it allows, with commas between them: products:read, products:write, orders:read,
        /// orders:write, or admin, which is everything
        #[arg(long, required = true, value_delimiter = ',', value_parser = scope)]
        scopes: Vec<Scope>,
        /// The one customer for whom it is: its bearer sees and places orders of that one only
        #[arg(long, value_parser = customer)]
        customer: Option<CustomerRef>,
        /// How many requests it allows a second, over all replicas (1 to 1000000)
        #[arg(long, value_parser = rate)]
        rate: Option<u32>,
        /// When it ends by itself, such as 2036-01-31T12:00:00Z
        #[arg(long, value_parser = expiry)]
        expires: Option<Timestamp>,
    },
    /// Print all keys, the newest first, one JSON object a line; never their secrets
    List,
    /// Revoke a key: it stops on every replica within seconds
    Revoke {
        /// Its id: what stands between hf_ and the next _
        id: String,
    },
}

fn must(Invalid(reason): Invalid) -> MustBe {
    MustBe::new(reason)
}

fn name(text: &str) -> Result<KeyName, MustBe> {
    KeyName::new(text.to_owned()).map_err(must)
}

fn scope(text: &str) -> Result<Scope, MustBe> {
    text.parse().map_err(must)
}

fn customer(text: &str) -> Result<CustomerRef, MustBe> {
    text.parse().map_err(must)
}

fn rate(text: &str) -> Result<u32, MustBe> {
    api_keys::rate(text.parse().unwrap_or(0)).map_err(must)
}

fn expiry(text: &str) -> Result<Timestamp, MustBe> {
    api_keys::expiry(text).map_err(must)
}

/// Does it.
pub(super) fn run(settings: KeysSettings) -> ExitCode {
    let KeysSettings { action, database, telemetry } = settings;
    super::in_runtime(&telemetry, async move {
        let store = Store::connect(&database.store());
        store.check_schema().await?;
        match action {
            KeysCommand::Create { name, scopes, customer, rate, expires } => {
                let wanted = KeyRequest {
                    name,
                    scopes: scopes.into_iter().collect::<Scopes>(),
                    customer,
                    rate_per_second: rate,
                    expires_at: expires,
                };
                let Some(made) = wanted.make(&store).await? else {
                    bail!("there are too many keys that are good; revoke one first");
                };
                print(&made.key)
            }
            KeysCommand::List => list(&store).await,
            KeysCommand::Revoke { id } => match store.revoke_api_key(&id).await? {
                Some(key) => print(&format!("{} ({}) is revoked", key.id, key.name)),
                None => bail!("there is no key with the id {id}"),
            },
        }
    })
}

async fn list(store: &Store) -> anyhow::Result<()> {
    let mut after = None;
    loop {
        let keys = store.api_keys(after.as_deref(), PAGE).await?;
        let Some(last) = keys.last() else { return Ok(()) };
        after = Some(last.id.clone());
        for key in keys {
            print(&serde_json::to_string(&KeyBody::from(key))?)?;
        }
    }
}

fn print(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{line}").context("the output is closed")
}
