//! `holdfast-api doctor`: checks the settings of `serve` and the servers, and prints how to fix what is wrong.

use std::process::ExitCode;

use clap::Args;
use holdfast_queue::{Queue, QueueError};
use holdfast_store::{SchemaError, Store};
use holdfast_telemetry::{Chain, command::Ended, settings::Together as _};
use jiff::SignedDuration;
use serde::Serialize;

use super::output::{ListOutput, OutputRow, OutputSettings, Text, ended_by};
use crate::settings::ServeSettings;

/// The oldest supported versions of the servers.
const POSTGRES_MIN: i32 = 150_000;
const REDIS_MIN: u32 = 7;
/// The difference between clocks that causes a warning.
const CLOCK_MAX: SignedDuration = SignedDuration::from_secs(2);

/// Settings of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorSettings {
    /// The output.
    #[command(flatten)]
    output: OutputSettings,
    /// The settings of `serve`.
    #[command(flatten)]
    serve: ServeSettings,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    /// It works, but should be improved.
    Warning,
    /// It does not work.
    Problem,
}

/// A check.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    found: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    todo: String,
}

/// All checks.
#[derive(Debug, Default)]
struct Checks {
    all: Vec<Finding>,
    unreachable: bool,
}

impl Checks {
    /// Adds a check. `todo` is empty if the state is `Ok`.
    fn add(&mut self, check: &'static str, state: State, found: impl Into<String>, todo: &str) {
        let todo = if state == State::Ok { String::new() } else { todo.to_owned() };
        self.all.push(Finding { check, state, found: found.into(), todo });
    }

    fn either(
        &mut self,
        check: &'static str,
        good: bool,
        otherwise: State,
        found: impl Into<String>,
        todo: &str,
    ) {
        self.add(check, if good { State::Ok } else { otherwise }, found, todo);
    }
}

/// Runs the command.
pub(super) fn run(settings: &DoctorSettings) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let checks = match runtime {
        Ok(runtime) => runtime.block_on(all(&settings.serve)),
        Err(error) => return super::failed(&error),
    };
    match print(&checks, settings.output) {
        Ok(()) => checks.ended().into(),
        Err(error) => ended_by(&error).map_or(ExitCode::SUCCESS, |_| super::failed(error.as_ref())),
    }
}

impl Checks {
    fn ended(&self) -> Ended {
        let problem = self.all.iter().find(|check| check.state == State::Problem);
        match problem {
            None => Ended::Done,
            Some(check) if check.check == "settings" => Ended::Usage,
            Some(_) if self.unreachable => Ended::Unreachable,
            Some(_) => Ended::Failed,
        }
    }
}

fn print(checks: &Checks, output: OutputSettings) -> anyhow::Result<()> {
    let mut list = ListOutput::new(output.output, &["CHECK", "STATE", "FOUND", "WHAT TO DO"]);
    let rows = checks.all.iter().map(|check| {
        let state = match check.state {
            State::Ok => Text::good("ok".to_owned()),
            State::Warning => Text::doubtful("warning".to_owned()),
            State::Problem => Text::bad("problem".to_owned()),
        };
        let cells = vec![
            check.check.to_owned().into(),
            state,
            Text::whole(check.found.clone()),
            Text::whole(check.todo.clone()),
        ];
        OutputRow::new(check.check, cells, check)
    });
    list.rows(&rows.collect::<anyhow::Result<Vec<_>>>()?)?;
    list.end("")
}

async fn all(settings: &ServeSettings) -> Checks {
    let mut checks = Checks::default();
    match settings.check() {
        Ok(()) => checks.add("settings", State::Ok, "consistent", ""),
        Err(sentence) => {
            checks.add("settings", State::Problem, sentence.to_string(), "change one of them");
        }
    }
    let auth = settings.access.is_on();
    checks.either(
        "access",
        auth,
        State::Warning,
        if auth {
            "requests need a key or token"
        } else {
            "HOLDFAST_AUTH is off: all clients may do everything"
        },
        "set HOLDFAST_AUTH to on if other hosts reach the server",
    );
    database(settings, &mut checks).await;
    redis(settings, &mut checks).await;
    files(settings, &mut checks);
    checks
}

async fn database(settings: &ServeSettings, checks: &mut Checks) {
    let store = settings.database.store(&settings.connections);
    let place = store.place();
    let store = Store::connect(&store);
    if let Err(error) = store.check_pooler().await {
        let found = format!("{place}: {}", Chain(&error));
        checks.add("database", State::Problem, found, "change the settings of the pooler");
        return;
    }
    let found = match store.diagnose().await {
        Ok(found) => found,
        Err(error) => {
            checks.unreachable |= error.is_unavailable();
            let found = format!("{place}: {}", Chain(&error));
            checks.add(
                "database",
                State::Problem,
                found,
                "check DATABASE_URL, that PostgreSQL is running, and the network",
            );
            return;
        }
    };
    checks.add("database", State::Ok, place, "");
    let version = format!("PostgreSQL {}.{}", found.version / 10_000, found.version % 10_000);
    checks.either(
        "database version",
        found.version >= POSTGRES_MIN,
        State::Problem,
        version,
        "use PostgreSQL 15 or newer",
    );
    checks.either(
        "database text",
        found.lacking.is_none(),
        State::Problem,
        found.lacking.unwrap_or_else(|| "UTF8, with ICU".to_owned()),
        "use a database with the encoding UTF8 on a PostgreSQL that is built with ICU",
    );
    checks.either(
        "database writes",
        !found.read_only,
        State::Problem,
        if found.read_only { "the server is read-only" } else { "accepted" },
        "point DATABASE_URL at the primary, or set default_transaction_read_only to off",
    );
    schema(&store, checks).await;
    let missing = found.forbidden.join(", ");
    checks.either(
        "permissions",
        missing.is_empty(),
        State::Problem,
        if missing.is_empty() {
            "granted on all tables".to_owned()
        } else {
            format!("missing on {missing}")
        },
        "grant this user SELECT, INSERT, UPDATE and DELETE on them",
    );
    checks.either(
        "migrations",
        found.may_create,
        State::Warning,
        if found.may_create { "this user may run them" } else { "this user may not create tables" },
        "run holdfast-api migrate as the owner of the schema",
    );
    let ours = i64::from(settings.connections.db_pool_size)
        + i64::from(settings.connections.db_admission_connections);
    let free = i64::from(found.connections_max) - found.connections;
    checks.either(
        "connections",
        free >= ours,
        State::Warning,
        format!("{free} of {} are free, this program uses up to {ours}", found.connections_max),
        "raise max_connections, or lower HOLDFAST_DB_POOL_SIZE",
    );
    let apart = found.clock_ahead.abs();
    checks.either(
        "clock",
        apart <= CLOCK_MAX,
        State::Warning,
        format!("{:.3} s apart from the database's clock", apart.as_secs_f64()),
        "synchronise both clocks, for example with chrony",
    );
    store.close().await;
}

async fn schema(store: &Store, checks: &mut Checks) {
    match store.check_schema().await {
        Ok(()) => {
            checks.add(
                "schema",
                State::Ok,
                format!("version {} or newer", Store::schema_version()),
                "",
            );
        }
        Err(SchemaError::Behind { found, needed }) => checks.add(
            "schema",
            State::Problem,
            format!("version {found}, this program needs {needed}"),
            "run holdfast-api migrate",
        ),
        Err(error) => checks.add(
            "schema",
            State::Problem,
            Chain(&error).to_string(),
            "grant this user SELECT on _sqlx_migrations",
        ),
    }
}

async fn redis(settings: &ServeSettings, checks: &mut Checks) {
    let (place, queue) = (settings.cache.redis_url.place(), Queue::connect(settings.cache.queue()));
    let asked = match &queue {
        Ok(queue) => queue.diagnose().await,
        Err(_) => Err(QueueError::Timeout),
    };
    let (Ok(queue), Ok(found)) = (&queue, &asked) else {
        checks.unreachable = true;
        let why =
            queue.as_ref().err().or(asked.as_ref().err()).map(|error| Chain(error).to_string());
        checks.add(
            "redis",
            State::Problem,
            format!("{place}: {}", why.unwrap_or_default()),
            "check REDIS_URL, that Redis is running, and the network",
        );
        return;
    };
    checks.add("redis", State::Ok, place, "");
    let server = &found.server;
    let major = server.redis_version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    checks.either(
        "redis version",
        major.is_some_and(|major| major >= REDIS_MIN),
        State::Problem,
        format!("{} {}", if server.name == "valkey" { "Valkey" } else { "Redis" }, server.version),
        "use Redis 7 or newer, or Valkey",
    );
    checks.either(
        "redis role",
        !server.replica,
        State::Problem,
        if server.replica { "replica" } else { "primary" },
        "point REDIS_URL at the primary",
    );
    let evicts = found.memory_max > 0 && found.eviction.starts_with("allkeys");
    checks.either(
        "redis eviction",
        !evicts,
        State::Warning,
        format!("{}, {} bytes used, limit {}", found.eviction, found.memory, found.memory_max),
        "set maxmemory-policy to noeviction or volatile-lru: other policies may evict the queue",
    );
    checks.either(
        "redis persistence",
        found.append_only || found.snapshots,
        State::Warning,
        match (found.append_only, found.snapshots) {
            (true, _) => "append-only file",
            (false, true) => "snapshots",
            (false, false) => "none",
        },
        "set appendonly to yes: without it, orders wait for the sweep after a restart of Redis",
    );
    match queue.depth().await {
        Ok(depth) => checks.add("queue", State::Ok, format!("{} orders", depth.total()), ""),
        Err(QueueError::NoGroup) => checks.add(
            "queue",
            State::Warning,
            "no worker has run on this Redis",
            "start a holdfast-worker; it creates the stream and its group",
        ),
        Err(error) => checks.add(
            "queue",
            State::Warning,
            Chain(&error).to_string(),
            "check that a holdfast-worker is running, and try again",
        ),
    }
}

fn files(settings: &ServeSettings, checks: &mut Checks) {
    let wanted = settings.http.max_connections;
    match crate::serve::connections_that_fit(settings) {
        Ok(fit) => checks.either(
            "open files",
            fit.connections >= wanted,
            State::Warning,
            format!(
                "a limit of {}: {} of {wanted} connections (HOLDFAST_MAX_CONNECTIONS)",
                fit.limit, fit.connections
            ),
            "raise the limit (ulimit -n), or lower HOLDFAST_MAX_CONNECTIONS",
        ),
        Err(error) => {
            let todo = "raise the limit of open files (ulimit -n)";
            checks.add("open files", State::Problem, error.to_string(), todo);
        }
    }
}
