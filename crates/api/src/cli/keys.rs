//! `holdfast-api keys`: manages API keys directly in the database, because creating the first key over HTTP would already
//! need a key.

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use holdfast_domain::{CustomerRef, Invalid, KeyName};
use holdfast_store::Store;
use holdfast_telemetry::{
    command::Ended,
    settings::{MustBe, Together},
};
use jiff::Timestamp;
use serde_json::value::to_raw_value;

use super::{
    CommandDatabase,
    output::{self, Format, OutputRow, OutputSettings, Paging, Text},
    results::Results,
};
use crate::{
    access::{Scope, Scopes},
    api_keys::{self, KeyBody, KeyRequest},
};

/// The size of a page.
const PAGE: usize = 1_000;

/// Settings of `keys`.
#[derive(Debug, Args)]
pub struct KeysSettings {
    /// The subcommand.
    #[command(subcommand)]
    pub action: KeyAction,
}

/// The subcommands of `keys`.
#[derive(Debug, Subcommand)]
pub enum KeyAction {
    /// Create a key and print it; it cannot be shown again
    Create(Box<CreateKeySettings>),
    /// List keys without their secrets, newest first
    List(Box<ListKeysSettings>),
    /// Revoke keys; all replicas refuse them within seconds
    Revoke(Box<RevokeKeysSettings>),
}

/// Settings of `keys create`.
#[derive(Debug, Args)]
pub struct CreateKeySettings {
    /// The purpose of the key, such as "web shop"
    #[arg(long, value_parser = name)]
    name: KeyName,
    /// The scopes of the key, separated by commas: products:read, products:write, orders:read,
    /// orders:write, or admin for everything
    #[arg(long, required = true, value_delimiter = ',', value_parser = scope)]
    scopes: Vec<Scope>,
    /// Restrict the key to the orders of this customer
    #[arg(long, value_parser = customer)]
    customer: Option<CustomerRef>,
    /// The most requests per second, over all replicas (1 to 1000000)
    #[arg(long, value_parser = rate)]
    rate: Option<u32>,
    /// The time at which the key expires, such as 2036-01-31T12:00:00Z
    #[arg(long, value_parser = expiry)]
    expires: Option<Timestamp>,
    /// The output format; if not set, only the key is printed
    #[arg(short, long, value_enum)]
    output: Option<Format>,
    /// The database.
    #[command(flatten)]
    database: CommandDatabase,
}

/// Settings of `keys list`.
#[derive(Debug, Args)]
pub struct ListKeysSettings {
    /// The part of the list.
    #[command(flatten)]
    paging: Paging,
    /// The output.
    #[command(flatten)]
    output: OutputSettings,
    /// The database.
    #[command(flatten)]
    database: CommandDatabase,
}

/// Settings of `keys revoke`.
#[derive(Debug, Args)]
pub struct RevokeKeysSettings {
    /// The ids of the keys: the part of a key between hf_ and the next _
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// The output.
    #[command(flatten)]
    output: OutputSettings,
    /// The database.
    #[command(flatten)]
    database: CommandDatabase,
}

const COLUMNS: [&str; 7] = ["ID", "NAME", "SCOPES", "CUSTOMER", "REQUESTS/S", "STATE", "CREATED"];
const RESULTS: [&str; 3] = ["ID", "RESULT", "DETAIL"];

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

impl Together for KeysSettings {
    fn check(&self) -> Result<(), MustBe> {
        let database = match &self.action {
            KeyAction::Create(create) => &create.database,
            KeyAction::List(list) => &list.database,
            KeyAction::Revoke(revoke) => &revoke.database,
        };
        database.check()
    }
}

/// Runs the command.
pub(super) fn run(settings: KeysSettings) -> ExitCode {
    match settings.action {
        KeyAction::Create(create) => create.database.run(async |store| create.run(store).await),
        KeyAction::List(list) => list.database.run(async |store| list.run(store).await),
        KeyAction::Revoke(revoke) => revoke.database.run(async |store| revoke.run(store).await),
    }
}

impl CreateKeySettings {
    async fn run(&self, store: Store) -> anyhow::Result<Ended> {
        store.check_schema().await?;
        let wanted = KeyRequest {
            name: self.name.clone(),
            scopes: self.scopes.iter().copied().collect::<Scopes>(),
            customer: self.customer.clone(),
            rate_per_second: self.rate,
            expires_at: self.expires,
        };
        let Some(made) = wanted.make(&store).await? else {
            bail!("there are too many valid keys; revoke one first");
        };
        let json = to_raw_value(&made)?;
        let format = self.output.unwrap_or(Format::Name);
        let row = OutputRow { name: made.key.clone(), cells: cells(&made.made), json };
        output::one(format, &made.key, &row.json, || {
            let columns = [&["KEY"][..], &COLUMNS[1..]].concat();
            let mut row = row.clone();
            row.cells[0] = made.key.clone().into();
            Ok(output::table(Some(&columns), &[row]))
        })?;
        Ok(Ended::Done)
    }
}

impl ListKeysSettings {
    async fn run(&self, store: Store) -> anyhow::Result<Ended> {
        store.check_schema().await?;
        let mut list = output::ListOutput::new(self.output.output, &COLUMNS);
        let scope = api_keys::list();
        let after = self.paging.cursor.as_deref().map(|cursor| scope.position(cursor));
        let mut after: Option<String> = after
            .transpose()
            .map_err(|Invalid(reason)| MustBe::new(format!("--cursor {reason}.")))?;
        let mut left = self.paging.limit();
        loop {
            // One more than is shown, to find out whether there are more.
            let page = i64::try_from(left.min(PAGE) + 1)?;
            let mut keys = store.api_keys(after.as_deref(), page).await?;
            let more = keys.len() > left.min(PAGE);
            keys.truncate(left.min(PAGE));
            left -= keys.len();
            after = keys.last().map(|key| key.id.clone()).or(after);
            let rows = keys.into_iter().map(|key| {
                let key = KeyBody::from(key);
                OutputRow::new(&key.id, cells(&key), &key)
            });
            list.rows(&rows.collect::<anyhow::Result<Vec<_>>>()?)?;
            if !more || left == 0 {
                list.end("There are no keys.")?;
                let next = after.filter(|_| more).map(|id| scope.cursor(&id));
                Paging::more(next.as_deref());
                return Ok(Ended::Done);
            }
        }
    }
}

impl RevokeKeysSettings {
    async fn run(&self, store: Store) -> anyhow::Result<Ended> {
        store.check_schema().await?;
        let mut results = Results::new(self.output.output, &RESULTS, &self.ids);
        for id in &self.ids {
            match store.revoke_api_key(id).await {
                Ok(Some(key)) => results.done(&key.id, "revoked", &key.name)?,
                Ok(None) => results.refused(id, "the key does not exist")?,
                Err(error) => results.failed(id, &error.into())?,
            }
        }
        results.end()
    }
}

fn cells(key: &KeyBody) -> Vec<Text> {
    let expired = key.expires_at.is_some_and(|end| end.0 <= Timestamp::now());
    let state = match (key.revoked_at, key.expires_at) {
        (Some(_), _) => Text::bad("revoked".to_owned()),
        (None, Some(_)) if expired => Text::bad("expired".to_owned()),
        (None, Some(end)) => Text::good(format!("valid until {:.0}", end.0)),
        (None, None) => Text::good("valid".to_owned()),
    };
    vec![
        key.id.clone().into(),
        key.name.clone().into(),
        key.scopes.join(",").into(),
        key.customer_ref.clone().into(),
        key.rate_per_second.into(),
        state,
        format!("{:.0}", key.created_at.0).into(),
    ]
}
