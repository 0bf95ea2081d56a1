//! The audit: proves the promises from the database and the clients' own log.
//!
//! 1. **Never oversold.** For each product, what was put in equals what is left, plus what active holds
//!    keep, plus what live orders have. A cancelled order has nothing; a failed one does, until it
//!    is replayed or cancelled. What was put in stands in the ledger of stock, whose rows must each
//!    follow from the one before; a client's log, if there is one, must say the same.
//! 2. **An accepted order is never lost.** Each order that a client was told of is there as it was
//!    asked for, no two answers name the same order, and there are no others but those that were
//!    sent and never answered.
//! 3. **Done once.** Each idempotency key leads to something that is there, no hold was used by two
//!    orders, exactly the orders in a final state have a time at which they reached it, and
//!    whatever was completed was begun. What the receiver has fulfilled, if the log knows, is not
//!    cancelled, and what is completed it has fulfilled.
//!
//! 4. **An answered write is kept.** Each other write that was answered with success is there: products as they
//!    were changed last and gone where they were deleted, changes of stock in the ledger, orders of several
//!    lines and from holds, holds, cancellations with their units, keys and their revocation, sales, and
//!    what was done to dead letters. What was sent and never answered is there whole or not at all, and once
//!    however often it was sent with the same key. Nothing is there of what was refused.
//!
//! Orders that were archived count for the first two: the database knows their units, and their files, if
//! they are given, must hold exactly the orders and units that it says.
//!
//! All is read in one snapshot of the database, so the first and third hold also while orders
//! come in.

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

/// Orders that are looked for in one statement.
const CHUNK: usize = 50_000;

/// Examples that a violation names.
const EXAMPLES: usize = 5;

/// What is to be proved.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expectation {
    /// Workers have had their time: every order has reached `completed`.
    pub all_completed: bool,
    /// Workers have had their time: no order is on its way any more.
    pub all_final: bool,
}

/// What the audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Products looked at.
    pub products: i64,
    /// Orders in the database.
    pub orders: i64,
    /// Of those, completed.
    pub completed: i64,
    /// Orders that were archived, and are not in its tables any more.
    #[serde(default)]
    pub archived: i64,
    /// Orders that were begun more than once: allowed, and of interest.
    pub begun_again: i64,
    /// Orders in the clients' log; `None` without one.
    pub accepted: Option<u64>,
    /// Orders that were sent and never answered.
    pub cut_off: u64,
    /// Writes that were answered with success, by route; orders in the clients' log included.
    #[serde(default)]
    pub answered: BTreeMap<String, u64>,
    /// Of those, such that are not there.
    #[serde(default)]
    pub missing: u64,
    /// Each broken promise, in words. Empty: all hold.
    pub violations: Vec<String>,
    /// What could not be checked, and why.
    pub unchecked: Vec<String>,
}

impl Findings {
    /// Whether all that was checked holds.
    pub fn hold(&self) -> bool {
        self.violations.is_empty()
    }

    /// Answered writes that are not there.
    fn missing(&mut self, what: &str, names: Vec<String>) {
        self.missing += names.len() as u64;
        self.broken(what, names);
    }

    /// Rows that break a promise, of which a few are named.
    fn broken(&mut self, what: &str, names: Vec<String>) {
        let count = names.len();
        let examples: Vec<String> = names.into_iter().take(EXAMPLES).collect();
        if count > 0 {
            self.violations.push(format!("{count} {what}: {}", examples.join("; ")));
        }
    }

    /// Counts what was answered.
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
            write!(f, ", {accepted} accepted by the log, {cut_off} cut off")?;
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

/// Audits a database. Without a log, promise 2 and the sums of promise 1 cannot be checked, and
/// the findings say so.
///
/// # Errors
/// When the database cannot be asked; a broken promise is a finding.
pub async fn audit(
    database_url: &str,
    log: Option<&Log>,
    expectation: Expectation,
) -> anyhow::Result<Findings> {
    audit_with_archive(database_url, log, None, expectation).await
}

/// The same with the folder into which `holdfast-api archive` has written. Without it, what was archived is
/// believed, and the findings say so.
///
/// # Errors
/// As [`audit`]; also when the folder cannot be read.
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

/// What the clients were told of.
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

/// Promise 3, as far as the database shows it.
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
            "orders were worked on and never begun",
            "orders WHERE status IN ('completed', 'processing') \
                 AND (attempt < 1 OR processing_at IS NULL)",
        ),
        (
            "idempotency keys lead to nothing",
            "idempotency_keys WHERE NOT CASE kind \
                 WHEN 'order' THEN EXISTS (SELECT FROM orders WHERE id = result_id) \
                 WHEN 'hold' THEN EXISTS (SELECT FROM holds WHERE id = result_id) \
                 ELSE true END",
        ),
        (
            "holds are used without an order, or the other way",
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

/// Counts rows that must not be there: what they are, and what stands behind `FROM`.
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
