//! The audit: checks the guarantees with the database and the clients' own log.
//!
//! 1. **Never oversold.** For each product, the units put in equal the units left, plus those in active holds, plus those in
//!    live orders. A cancelled order has no units; a failed one keeps them until it is replayed or cancelled. The units put
//!    in are in the stock ledger, in which each entry must follow from the previous one, and in the clients' log, if there
//!    is one.
//! 2. **An accepted order is never lost.** Each order in an answer exists as it was requested, no two answers name the same
//!    order, and there are no other orders except those that were sent and whose outcome no answer told.
//! 3. **Done once.** Each idempotency key belongs to an existing result, no hold was used by two orders, exactly the orders
//!    in a final state have the time of that state, and every completed order was started. No order that the receiver has
//!    fulfilled, according to the log, is cancelled, and every completed order was fulfilled by the receiver.
//! 4. **An answered write is kept.** The effect of every other write that was answered with success exists: products in
//!    their last state or deleted, changes of stock in the ledger, orders with several lines and from holds, holds,
//!    cancellations with their units, keys and their revocation, sales, and replays and discards of dead letters. The
//!    effect of a write without an answer exists completely or not at all, and only once if it was repeated with the same
//!    key. A refused write has no effect.
//!
//! Archived orders count for the first two guarantees: the database records their units, and their files, if they are
//! given, must contain exactly these orders and units.
//!
//! Everything is read in one snapshot of the database, so the first and third guarantee can also be checked while orders
//! are placed.

mod accepted;
mod adjustments;
mod api_keys;
mod archive;
mod dead_letters;
mod fulfilled;
mod holds;
mod log;
mod orders;
mod products;
mod refused;
mod sales;
mod stock;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection};

use archive::Archived;
pub use log::Log;
pub use write::{LoggedLine, LoggedSale, Write};

/// The number of orders in one query.
const CHUNK: usize = 50_000;

/// The number of examples in a violation.
const EXAMPLES: usize = 5;

/// What is expected in addition to the guarantees.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expectation {
    /// All orders are completed.
    pub all_completed: bool,
    /// All orders have a final status.
    pub all_final: bool,
}

/// The result of the audit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    pub products: i64,
    /// The number of orders in the database.
    pub orders: i64,
    /// The number of completed orders among them.
    pub completed: i64,
    /// The number of archived orders, which are no longer in the tables.
    #[serde(default)]
    pub archived: i64,
    /// The number of orders with more than one attempt, which is allowed.
    pub begun_again: i64,
    /// The number of orders in the clients' log; `None` without a log.
    pub accepted: Option<u64>,
    /// The number of orders that were sent, and not answered or answered with an unknown outcome.
    pub cut_off: u64,
    /// The number of writes that were answered with success by route, including the orders in the clients' log.
    #[serde(default)]
    pub answered: BTreeMap<String, u64>,
    /// The number of writes among them whose effect is missing.
    #[serde(default)]
    pub missing: u64,
    /// The violations of the guarantees; empty if all hold.
    pub violations: Vec<String>,
    /// The checks that were not possible, with the reason.
    pub unchecked: Vec<String>,
}

impl Findings {
    /// Whether there are no violations.
    pub fn hold(&self) -> bool {
        self.violations.is_empty()
    }

    /// Adds answered writes whose effect is missing.
    fn missing(&mut self, what: &str, names: Vec<String>) {
        self.missing += names.len() as u64;
        self.broken(what, names);
    }

    /// Adds rows that violate a guarantee, with a few examples.
    fn broken(&mut self, what: &str, names: Vec<String>) {
        let count = names.len();
        let examples: Vec<String> = names.into_iter().take(EXAMPLES).collect();
        if count > 0 {
            self.violations.push(format!("{count} {what}: {}", examples.join("; ")));
        }
    }

    /// Counts answered writes.
    fn count(&mut self, log: &Log) {
        for write in &log.answered {
            *self.answered.entry(write.route().to_owned()).or_default() += 1;
        }
        if !log.accepted.is_empty() {
            *self.answered.entry("POST /orders".to_owned()).or_default() +=
                log.accepted.len() as u64;
        }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { products, orders, completed, archived, cut_off, .. } = self;
        write!(f, "{orders} orders on {products} products, {completed} completed")?;
        if *archived > 0 {
            write!(f, ", {archived} more archived")?;
        }
        if let Some(accepted) = self.accepted {
            write!(f, ", {accepted} accepted by the log, {cut_off} with an unknown outcome")?;
        }
        let answered: u64 = self.answered.values().sum();
        if self.answered.len() > 1 {
            let routes = self.answered.len();
            write!(f, ", {answered} writes answered on {routes} routes, missing {}", self.missing)?;
        }
        for violation in &self.violations {
            write!(f, "\n  BROKEN: {violation}")?;
        }
        for unchecked in &self.unchecked {
            write!(f, "\n  not checked: {unchecked}")?;
        }
        Ok(())
    }
}

/// Audits a database. Without a log, guarantee 2 and the sums of guarantee 1 cannot be checked; the findings report this.
///
/// # Errors
/// The database cannot be read. A violation is not an error but a finding.
pub async fn audit(
    database_url: &str,
    log: Option<&Log>,
    expectation: Expectation,
) -> anyhow::Result<Findings> {
    audit_with_archive(database_url, log, None, expectation).await
}

/// The same with the folder of `holdfast-api archive`. Without it, the archived orders cannot be checked; the findings
/// report this.
///
/// # Errors
/// See [`audit`]; or the folder cannot be read.
pub async fn audit_with_archive(
    database_url: &str,
    log: Option<&Log>,
    folder: Option<&Path>,
    expectation: Expectation,
) -> anyhow::Result<Findings> {
    let options: PgConnectOptions = database_url.parse().context("not a PostgreSQL URL")?;
    let mut connection =
        options.application_name("holdfast-bench audit").connect().await.context("no database")?;
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let mut findings = Findings::default();
    counts(&mut connection, &mut findings).await?;
    let archived = Archived::read(&mut connection, folder, &mut findings).await?;
    stock::check(&mut connection, log, &archived, &mut findings).await?;
    match log {
        Some(log) => answered(&mut connection, log, &archived, &mut findings).await?,
        None => findings.unchecked.push("that no accepted order is lost: there is no log".into()),
    }
    done_once(&mut connection, expectation, &mut findings).await?;
    connection.close().await?;
    Ok(findings)
}

/// The orders and writes in answers to clients.
async fn answered(
    connection: &mut PgConnection,
    log: &Log,
    archived: &Archived,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    findings.count(log);
    products::check(connection, log, findings).await?;
    adjustments::check(connection, log, findings).await?;
    let others = orders::check(connection, log, archived, findings).await?;
    accepted::accepted(connection, log, archived, others, findings).await?;
    holds::check(connection, log, archived, findings).await?;
    api_keys::check(connection, log, findings).await?;
    sales::check(connection, log, findings).await?;
    refused::check(connection, log, findings).await?;
    fulfilled::check(connection, log, findings).await?;
    dead_letters::check(connection, log, archived, findings).await
}

async fn counts(connection: &mut PgConnection, findings: &mut Findings) -> anyhow::Result<()> {
    (findings.products, findings.orders, findings.completed, findings.begun_again) =
        sqlx::query_as(
            "SELECT (SELECT count(*) FROM products), count(*), \
                 count(*) FILTER (WHERE status = 'completed'), count(*) FILTER (WHERE attempt > 1) \
             FROM orders",
        )
        .fetch_one(connection)
        .await?;
    Ok(())
}

/// Guarantee 3, as far as the database can show it.
async fn done_once(
    connection: &mut PgConnection,
    expectation: Expectation,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let mut checks = vec![
        (
            "orders are final without a time, or have a time and are not final",
            "orders WHERE (finished_at IS NULL) = (status IN ('completed', 'failed', 'cancelled'))",
        ),
        (
            "orders were processed and never started",
            "orders WHERE status IN ('completed', 'processing') \
                 AND (attempt < 1 OR processing_at IS NULL)",
        ),
        (
            "idempotency keys have no result",
            "idempotency_keys WHERE NOT CASE kind \
                 WHEN 'order' THEN EXISTS (SELECT FROM orders WHERE id = result_id) \
                 WHEN 'hold' THEN EXISTS (SELECT FROM holds WHERE id = result_id) \
                 ELSE true END",
        ),
        (
            "holds are used without an order, or have an order without being used",
            "holds LEFT JOIN orders ON orders.id = order_id \
             WHERE (holds.status = 'used') <> (orders.id IS NOT NULL)",
        ),
    ];
    if expectation.all_completed {
        checks.push(("orders have not reached `completed`", "orders WHERE status <> 'completed'"));
    }
    if expectation.all_final {
        let open = "orders WHERE status IN ('pending', 'processing')";
        checks.push(("orders have not reached a final state", open));
    }
    none_of(connection, &checks, findings).await
}

/// Counts rows that must not exist. Each check has a description and the text after `FROM`.
async fn none_of(
    connection: &mut PgConnection,
    checks: &[(&str, &'static str)],
    findings: &mut Findings,
) -> anyhow::Result<()> {
    for (what, from) in checks {
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {from}")))
            .fetch_one(&mut *connection)
            .await?;
        if count > 0 {
            findings.violations.push(format!("{count} {what}"));
        }
    }
    Ok(())
}
