//! `holdfast-api dead-letters`: what the admin port does to them, from the command line, without a server that
//! runs. The very endpoints are asked, in this process.

use std::{io::Write as _, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use axum::{
    Router,
    body::Body,
    http::{Method, Request, header},
};
use clap::{Args, Subcommand};
use holdfast_admission::{Admission, AdmissionMetrics, AdmissionSettings};
use holdfast_cache::Cache;
use holdfast_domain::{OrderId, json};
use holdfast_queue::Publisher;
use holdfast_store::Store;
use holdfast_telemetry::{Chain, Readiness, TelemetrySettings, registry};
use http_body_util::BodyExt as _;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value, json, value::RawValue};
use tower::ServiceExt as _;

use crate::{
    app::{App, AppParts},
    body::BodyLimits,
    byte_budget::ByteBudget,
    endpoint::Surface,
    limits::OrderLimits,
    problem::Problem,
    request::Input,
    router::router,
    settings::{DatabaseSettings, RedisCacheSettings},
};

/// How many one request replays.
const REPLAYED_MAX: usize = 1_000;

/// Settings of `dead-letters`.
#[derive(Debug, Args)]
pub struct DeadLetterSettings {
    /// What to do with them.
    #[command(subcommand)]
    pub action: DeadLettersCommand,
    /// PostgreSQL.
    #[command(flatten)]
    pub database: DatabaseSettings,
    /// Redis, which is told what changes.
    #[command(flatten)]
    pub cache: RedisCacheSettings,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetrySettings,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// Print them, the newest orders first, one JSON object a line
    List(Filter),
    /// Print one with its history: each try, and why it failed
    Show {
        /// The order
        id: i64,
    },
    /// Have them tried again: those that are named, or all that a filter fits
    Replay {
        /// The orders
        #[arg(required_unless_present_any = ["all", "product_id", "failed_since", "failed_before"],
            conflicts_with_all = ["all", "product_id", "failed_since", "failed_before"])]
        ids: Vec<i64>,
        /// All of them
        #[arg(long)]
        all: bool,
        /// Those to replay.
        #[command(flatten)]
        filter: Filter,
        /// Who wants it.
        #[command(flatten)]
        ordered: OperatorArguments,
    },
    /// Give them up: the orders are cancelled, and their units are in stock again
    Discard {
        /// The orders
        #[arg(required = true)]
        ids: Vec<i64>,
        /// They are no dead letters but pending, and may be fulfilled already; make sure first that they are not
        #[arg(long)]
        pending: bool,
        /// Who wants it.
        #[command(flatten)]
        ordered: OperatorArguments,
    },
}

/// Which dead letters.
#[derive(Debug, Args)]
pub struct Filter {
    /// Only orders with this product on one of their lines
    #[arg(long)]
    product_id: Option<i64>,
    /// Only orders that failed at this time or later, such as 2026-01-31T12:00:00Z
    #[arg(long)]
    failed_since: Option<String>,
    /// Only orders that failed before this time
    #[arg(long)]
    failed_before: Option<String>,
}

impl Filter {
    fn fields(self) -> Map<String, Value> {
        let fields = [
            ("product_id", self.product_id.map(Value::from)),
            ("failed_since", self.failed_since.map(Value::from)),
            ("failed_before", self.failed_before.map(Value::from)),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// Who wants something, and why: both are kept in the order's history.
#[derive(Debug, Args)]
pub struct OperatorArguments {
    /// Who wants it: kept in each order's history
    #[arg(long)]
    by: String,
    /// Why: kept there too
    #[arg(long)]
    note: Option<String>,
}

impl OperatorArguments {
    fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::from_iter([("by".to_owned(), Value::from(self.by.as_str()))]);
        if let Some(note) = &self.note {
            fields.insert("note".to_owned(), note.as_str().into());
        }
        fields
    }
}

/// Does it.
pub(super) fn run(settings: DeadLetterSettings) -> ExitCode {
    let DeadLetterSettings { action, database, cache, telemetry } = settings;
    super::in_runtime(&telemetry, async move {
        let store = Store::connect(&database.store());
        store.check_schema().await?;
        let identity = store.database_identity().await?;
        let shop = Shop::open(store, &cache)?;
        shop.app.cache.of_database(&identity);
        let done = shop.act(action).await;
        shop.close().await;
        done
    })
}

/// The endpoints, and what they work with.
struct Shop {
    endpoints: Router,
    app: App,
}

impl Shop {
    fn open(store: Store, settings: &RedisCacheSettings) -> anyhow::Result<Self> {
        let registry = registry("api", env!("CARGO_PKG_VERSION"))?;
        let metrics = AdmissionMetrics::unmeasured(&registry)?;
        let cache = Cache::connect(settings.cache())?;
        let admission = Admission::open(
            AdmissionSettings::default(),
            store.clone(),
            cache.clone(),
            Publisher::connect(settings.queue())?,
            Arc::new(metrics),
        );
        // Bodies come from here, and orders and holds are not made.
        let app = App::new(AppParts {
            store,
            cache,
            admission,
            readiness: Readiness::default(),
            body: BodyLimits {
                bytes: 1 << 20,
                time: Duration::from_secs(1),
                bytes_per_second: 0,
                budget: ByteBudget::leak(1 << 20),
            },
            limits: OrderLimits { quantity: 1, lines: 1, hold: Duration::from_secs(1) },
        });
        Ok(Self { endpoints: router(app.clone(), Surface::Admin), app })
    }

    /// Returns when what was changed is known to workers and caches.
    async fn close(self) {
        self.app.admission.close().await;
        self.app.cache.shutdown().await;
        self.app.store.close().await;
    }

    async fn act(&self, action: DeadLettersCommand) -> anyhow::Result<()> {
        match action {
            DeadLettersCommand::List(filter) => self.list(filter).await,
            DeadLettersCommand::Show { id } => {
                print(&self.ask(Method::GET, &format!("/dead-letters/{id}"), None).await?.0)
            }
            DeadLettersCommand::Replay { ids, all, filter, ordered } if ids.is_empty() => {
                let mut body = ordered.fields();
                body.extend(filter.fields());
                if all {
                    body.insert("all".to_owned(), true.into());
                }
                self.replay_matching(body).await
            }
            DeadLettersCommand::Replay { ids, ordered, .. } => self.replay(&ids, &ordered).await,
            DeadLettersCommand::Discard { ids, pending, ordered } => {
                let mut wish = ordered.fields();
                if pending {
                    wish.insert("state".to_owned(), "pending".into());
                }
                for id in ids {
                    let path = format!("/dead-letters/{}/discard", OrderId(id));
                    let (order, _) =
                        self.ask(Method::POST, &path, Some(wish.clone().into())).await?;
                    print(&order)?;
                }
                Ok(())
            }
        }
    }

    async fn list(&self, filter: Filter) -> anyhow::Result<()> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", "1000");
        for (name, value) in filter.fields() {
            query.append_pair(&name, &value.as_str().map_or(value.to_string(), str::to_owned));
        }
        let mut page = format!("/dead-letters?{}", query.finish());
        loop {
            let (orders, next) = self.ask(Method::GET, &page, None).await?;
            let elements = Input::Json(&orders).elements(usize::MAX);
            for order in elements.context("no list came back")? {
                print_line(order.written())?;
            }
            let Some(next) = next else { return Ok(()) };
            page = next;
        }
    }

    async fn replay(&self, ids: &[i64], ordered: &OperatorArguments) -> anyhow::Result<()> {
        let mut refused = 0;
        for ids in ids.chunks(REPLAYED_MAX) {
            let mut body = ordered.fields();
            body.insert("ids".to_owned(), json!(ids));
            let (answer, _) =
                self.ask(Method::POST, "/dead-letters/replay", Some(body.into())).await?;
            refused += json::from_str::<ReplayedPage>(answer.get())?.not_replayed.len();
            print(&answer)?;
        }
        if refused > 0 {
            bail!(
                "{refused} of the orders are no dead letters or locked; they stand in not_replayed"
            );
        }
        Ok(())
    }

    async fn replay_matching(&self, mut body: Map<String, Value>) -> anyhow::Result<()> {
        loop {
            let (answer, _) =
                self.ask(Method::POST, "/dead-letters/replay", Some(body.clone().into())).await?;
            print(&answer)?;
            let Some(cursor) = json::from_str::<ReplayedPage>(answer.get())?.cursor else {
                return Ok(());
            };
            body.insert("cursor".to_owned(), cursor.into());
        }
    }

    /// Asks an endpoint; returns its answer, and where the next page is.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<(Box<RawValue>, Option<String>)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())))?;
        let mut response = self.endpoints.clone().oneshot(request).await?;
        let good = response.status().is_success();
        let problem = response.extensions_mut().remove::<Problem>();
        if let Some(problem) = &problem {
            problem.write(&mut response, "");
        }
        let next = response.headers().get(header::LINK).and_then(|link| {
            let (path, _) = link.to_str().ok()?.strip_prefix('<')?.split_once('>')?;
            Some(path.to_owned())
        });
        let bytes = response.into_body().collect().await?.to_bytes();
        let answer = RawValue::from_string(String::from_utf8(bytes.into())?)?;
        if good {
            return Ok((answer, next));
        }
        // It names all wrong fields.
        let detail = json::from_str::<Refused>(answer.get())?.detail;
        let sentence = detail.as_deref().unwrap_or("The request was refused.");
        match problem.as_ref().and_then(Problem::cause) {
            Some(cause) => bail!("{sentence} {}", Chain(cause)),
            None => bail!("{sentence}"),
        }
    }
}

/// What is read of an answer; the rest is printed as it came.
#[derive(Deserialize)]
struct ReplayedPage {
    #[serde(default)]
    not_replayed: Vec<IgnoredAny>,
    cursor: Option<String>,
}

#[derive(Deserialize)]
struct Refused {
    detail: Option<String>,
}

fn print(value: &RawValue) -> anyhow::Result<()> {
    print_line(value.get())
}

fn print_line(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{line}").context("the output is closed")
}
