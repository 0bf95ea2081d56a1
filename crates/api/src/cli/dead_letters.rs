//! `holdfast-api dead-letters`: the operations of the admin port on the command line, without a running server. It calls
//! the same endpoints in this process.

use std::process::ExitCode;

use axum::http::Method;
use clap::{Args, Subcommand};
use holdfast_domain::{OrderId, json};
use holdfast_store::Store;
use holdfast_telemetry::{
    CommandLogs,
    command::Ended,
    settings::{MustBe, Together, whole},
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

mod shop;
mod shown;

use shop::{AdminEndpoints, EndpointRefusal};

use super::{
    output::{self, ListOutput, OutputSettings, Paging},
    progress,
    results::Results,
};
use crate::{
    request::Input,
    settings::{DatabaseConnections, DatabaseSettings, RedisCacheSettings},
};

/// The number of orders in one request.
const AT_ONCE_MAX: usize = 1_000;
const RESULTS: [&str; 3] = ["ORDER", "RESULT", "DETAIL"];

/// Settings of `dead-letters`.
#[derive(Debug, Args)]
pub struct DeadLetterSettings {
    /// The subcommand.
    #[command(subcommand)]
    pub action: DeadLetterAction,
}

/// The servers and the log of a command.
#[derive(Debug, Args)]
pub struct CommandServers {
    /// PostgreSQL.
    #[command(flatten)]
    database: DatabaseSettings,
    /// Redis, which is notified of changes.
    #[command(flatten)]
    cache: RedisCacheSettings,
    /// Logs.
    #[command(flatten)]
    logs: CommandLogs,
    /// Connections to PostgreSQL.
    #[command(flatten)]
    connections: DatabaseConnections,
}

/// The subcommands of `dead-letters`.
#[derive(Debug, Subcommand)]
pub enum DeadLetterAction {
    /// List dead letters, newest orders first
    List(Box<ListSettings>),
    /// Show a dead letter with its history: each attempt, and why it failed
    Show(Box<ShowSettings>),
    /// Try orders again: the given ones, or all that match a filter
    Replay(Box<ReplaySettings>),
    /// Give up on orders: cancel them and return their units to stock
    Discard(Box<DiscardSettings>),
}

/// Settings of `list`.
#[derive(Debug, Args)]
pub struct ListSettings {
    /// The filter.
    #[command(flatten)]
    filter: Filter,
    /// The part of the list.
    #[command(flatten)]
    paging: Paging,
    /// The output.
    #[command(flatten)]
    output: OutputSettings,
    /// The servers.
    #[command(flatten)]
    servers: CommandServers,
}

/// Settings of `show`.
#[derive(Debug, Args)]
pub struct ShowSettings {
    /// The id of the order
    id: i64,
    /// The output.
    #[command(flatten)]
    output: OutputSettings,
    /// The servers.
    #[command(flatten)]
    servers: CommandServers,
}

/// Settings of `replay`.
#[derive(Debug, Args)]
pub struct ReplaySettings {
    /// The ids of the orders
    #[arg(value_name = "ID", conflicts_with_all = ["all", "product_id", "failed_since", "failed_before"])]
    ids: Vec<i64>,
    /// All dead letters
    #[arg(long)]
    all: bool,
    /// The filter.
    #[command(flatten)]
    filter: Filter,
    /// The operator.
    #[command(flatten)]
    ordered: Ordered,
    /// The output.
    #[command(flatten)]
    output: OutputSettings,
    /// The servers.
    #[command(flatten)]
    servers: CommandServers,
}

/// Settings of `discard`.
#[derive(Debug, Args)]
pub struct DiscardSettings {
    /// The ids of the orders
    #[arg(required = true, value_name = "ID")]
    ids: Vec<i64>,
    /// Discard pending orders that may have been fulfilled; make sure first that they were not
    #[arg(long)]
    pending: bool,
    /// The operator.
    #[command(flatten)]
    ordered: Ordered,
    /// The output.
    #[command(flatten)]
    output: OutputSettings,
    /// The servers.
    #[command(flatten)]
    servers: CommandServers,
}

/// A filter of dead letters.
#[derive(Clone, Debug, Args)]
pub struct Filter {
    /// Only orders that contain this product
    #[arg(long, value_parser = whole(1..=i64::MAX))]
    product_id: Option<i64>,
    /// Only orders that failed at or after this time, such as 2026-01-31T12:00:00Z
    #[arg(long, value_parser = time)]
    failed_since: Option<Timestamp>,
    /// Only orders that failed before this time
    #[arg(long, value_parser = time)]
    failed_before: Option<Timestamp>,
}

fn time(text: &str) -> Result<Timestamp, MustBe> {
    let must = || MustBe::new("must be a time with its offset, such as 2026-01-31T12:00:00Z");
    text.parse().map_err(|_| must())
}

impl Filter {
    fn fields(&self) -> Map<String, Value> {
        let time = |time: Option<Timestamp>| time.map(|time| Value::from(time.to_string()));
        let fields = [
            ("product_id", self.product_id.map(Value::from)),
            ("failed_since", time(self.failed_since)),
            ("failed_before", time(self.failed_before)),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// The operator and the reason, which are kept in the order's history.
#[derive(Debug, Args)]
pub struct Ordered {
    /// Your name or account: kept in each order's history
    #[arg(long)]
    by: String,
    /// The reason: kept in each order's history
    #[arg(long)]
    note: Option<String>,
}

impl Ordered {
    fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::from_iter([("by".to_owned(), Value::from(self.by.as_str()))]);
        if let Some(note) = &self.note {
            fields.insert("note".to_owned(), note.as_str().into());
        }
        fields
    }
}

impl Together for DeadLetterSettings {
    fn check(&self) -> Result<(), MustBe> {
        let servers = match &self.action {
            DeadLetterAction::List(list) => &list.servers,
            DeadLetterAction::Show(show) => &show.servers,
            DeadLetterAction::Replay(replay) => &replay.servers,
            DeadLetterAction::Discard(discard) => &discard.servers,
        };
        servers.connections.check()?;
        servers.cache.check()?;
        match &self.action {
            DeadLetterAction::Replay(replay) => replay.check(),
            _ => Ok(()),
        }
    }
}

impl Together for ReplaySettings {
    fn check(&self) -> Result<(), MustBe> {
        if self.ids.is_empty() && !self.all && self.filter.fields().is_empty() {
            return Err(MustBe::new(
                "Name the orders: by their ids, with a filter (--product-id, --failed-since, --failed-before), or with --all.",
            ));
        }
        Ok(())
    }
}

/// Runs the command.
pub(super) fn run(settings: DeadLetterSettings) -> ExitCode {
    match settings.action {
        DeadLetterAction::List(list) => in_shop(&list.servers, async |shop| list.run(shop).await),
        DeadLetterAction::Show(show) => in_shop(&show.servers, async |shop| show.run(shop).await),
        DeadLetterAction::Replay(replay) => {
            in_shop(&replay.servers, async |shop| replay.run(shop).await)
        }
        DeadLetterAction::Discard(discard) => {
            in_shop(&discard.servers, async |shop| discard.run(shop).await)
        }
    }
}

fn in_shop(
    servers: &CommandServers,
    act: impl AsyncFnOnce(&AdminEndpoints) -> anyhow::Result<Ended>,
) -> ExitCode {
    let database = servers.database.store(&servers.connections);
    super::in_runtime(&servers.logs, &database, async {
        let shop = AdminEndpoints::open(Store::connect(&database), &servers.cache).await?;
        let done = act(&shop).await;
        shop.close().await;
        done
    })
}

impl ListSettings {
    async fn run(&self, shop: &AdminEndpoints) -> anyhow::Result<Ended> {
        let mut list = ListOutput::new(self.output.output, &shown::COLUMNS);
        let mut cursor = self.paging.cursor.clone();
        let mut left = self.paging.limit();
        loop {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("limit", &left.min(AT_ONCE_MAX).to_string());
            for (name, value) in self.filter.fields() {
                query.append_pair(&name, &value.as_str().map_or(value.to_string(), str::to_owned));
            }
            if let Some(cursor) = &cursor {
                query.append_pair("cursor", cursor);
            }
            let path = format!("/dead-letters?{}", query.finish());
            let (orders, next) = shop.ask(Method::GET, &path, None).await?;
            let orders = Input::Json(&orders).elements(usize::MAX).unwrap_or_default();
            let rows: anyhow::Result<Vec<_>> =
                orders.into_iter().map(|order| shown::row(order.written())).collect();
            let rows = rows?;
            left = left.saturating_sub(rows.len());
            list.rows(&rows)?;
            cursor = next;
            if cursor.is_none() || left == 0 {
                list.end("There are no dead letters.")?;
                Paging::more(cursor.as_deref());
                return Ok(Ended::Done);
            }
        }
    }
}

impl ShowSettings {
    async fn run(&self, shop: &AdminEndpoints) -> anyhow::Result<Ended> {
        let path = format!("/dead-letters/{}", OrderId(self.id));
        let (order, _) = shop.ask(Method::GET, &path, None).await?;
        output::one(self.output.output, &self.id.to_string(), &order, || shown::order(&order))?;
        Ok(Ended::Done)
    }
}

impl ReplaySettings {
    async fn run(&self, shop: &AdminEndpoints) -> anyhow::Result<Ended> {
        let mut results = Results::new(self.output.output, &RESULTS, &self.ids);
        if self.ids.is_empty() {
            self.matching(shop, &mut results).await?;
            return results.end();
        }
        let bar = progress::bar(self.ids.len() as u64, "replaying");
        for ids in self.ids.chunks(AT_ONCE_MAX) {
            let mut body = self.ordered.fields();
            body.insert("ids".to_owned(), json!(ids));
            let asked = shop.ask(Method::POST, "/dead-letters/replay", Some(body.into())).await;
            bar.suspend(|| match asked {
                Ok((answer, _)) => report(&answer, &mut results).map(drop),
                Err(error) if error.is::<MustBe>() => Err(error),
                Err(error) => ids.iter().try_for_each(|id| results.failed(&id.to_string(), &error)),
            })?;
            bar.inc(ids.len() as u64);
        }
        bar.finish_and_clear();
        results.end()
    }

    async fn matching(&self, shop: &AdminEndpoints, results: &mut Results) -> anyhow::Result<()> {
        let mut body = self.ordered.fields();
        body.extend(self.filter.fields());
        if self.all {
            body.insert("all".to_owned(), true.into());
        }
        let bar = progress::spinner("replaying");
        loop {
            let body_now = Some(body.clone().into());
            let (answer, _) = shop.ask(Method::POST, "/dead-letters/replay", body_now).await?;
            let Some(cursor) = bar.suspend(|| report(&answer, results))? else { break };
            body.insert("cursor".to_owned(), cursor.into());
        }
        bar.finish_and_clear();
        Ok(())
    }
}

/// Reports which orders were replayed, and returns the cursor.
fn report(answer: &RawValue, results: &mut Results) -> anyhow::Result<Option<String>> {
    let ReplayAnswer { replayed, not_replayed, cursor } = json::from_str(answer.get())?;
    for id in replayed {
        results.done(&id.to_string(), "replayed", "")?;
    }
    for NotReplayed { id, status } in not_replayed {
        let why = match status.as_deref() {
            None => "the order does not exist".to_owned(),
            Some("failed") => "another transaction has locked it; try again".to_owned(),
            Some(status) => format!("it is {status}, so it is not a dead letter"),
        };
        results.refused(&id.to_string(), &why)?;
    }
    Ok(cursor)
}

impl DiscardSettings {
    async fn run(&self, shop: &AdminEndpoints) -> anyhow::Result<Ended> {
        let mut results = Results::new(self.output.output, &RESULTS, &self.ids);
        let mut body = self.ordered.fields();
        if self.pending {
            body.insert("state".to_owned(), "pending".into());
        }
        let bar = progress::bar(self.ids.len() as u64, "discarding");
        for id in &self.ids {
            let path = format!("/dead-letters/{}/discard", OrderId(*id));
            let id = id.to_string();
            if !results.is_reachable() {
                results.skipped(&id)?;
                continue;
            }
            let asked = shop.ask(Method::POST, &path, Some(body.clone().into())).await;
            bar.suspend(|| match asked {
                Ok(_) => results.done(&id, "discarded", ""),
                // The error applies to all of them.
                Err(error) if error.is::<MustBe>() => Err(error),
                Err(error) if error.is::<EndpointRefusal>() => {
                    results.refused(&id, &error.to_string())
                }
                Err(error) => results.failed(&id, &error),
            })?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        results.end()
    }
}

#[derive(Deserialize)]
#[allow(clippy::struct_field_names)] // as in the answer
struct ReplayAnswer {
    replayed: Vec<i64>,
    #[serde(default)]
    not_replayed: Vec<NotReplayed>,
    cursor: Option<String>,
}

#[derive(Deserialize)]
struct NotReplayed {
    id: i64,
    status: Option<String>,
}
