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
//!    whatever was completed was begun.
//!
//! Orders that were archived count for the first two: the database knows their units, and their files, if
//! they are given, must hold exactly the orders and units that it says.
//!
//! All is read in one snapshot of the database, so the first and third hold also while orders
//! come in.

mod accepted;
mod archive;
mod log;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection, Row as _};

use archive::Archived;
pub use log::Log;

/// Orders that are looked for in one statement.
const CHUNK: usize = 50_000;

/// Examples that a violation names.
const EXAMPLES: usize = 5;

/// What is to be proved.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expectation {
    /// Workers have had their time: every order has reached `completed`.
    pub all_completed: bool,
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
    stock(&mut connection, log, &archived, &mut findings).await?;
    match log {
        Some(log) => accepted::accepted(&mut connection, log, &archived, &mut findings).await?,
        None => findings.unchecked.push("that no accepted order is lost: there is no log".into()),
    }
    done_once(&mut connection, expectation, &mut findings).await?;
    connection.close().await?;
    Ok(findings)
}

async fn counts(connection: &mut PgConnection, findings: &mut Findings) -> anyhow::Result<()> {
    let row = sqlx::query(
        "SELECT (SELECT count(*) FROM products), count(*), \
             count(*) FILTER (WHERE status = 'completed'), count(*) FILTER (WHERE attempt > 1) \
         FROM orders",
    )
    .fetch_one(connection)
    .await?;
    findings.products = row.try_get(0)?;
    findings.orders = row.try_get(1)?;
    findings.completed = row.try_get(2)?;
    findings.begun_again = row.try_get(3)?;
    Ok(())
}

/// Every line of every order.
macro_rules! all_lines {
    () => {
        "SELECT product_id, quantity, status FROM orders \
         UNION ALL SELECT order_lines.product_id, order_lines.quantity, status \
             FROM order_lines JOIN orders ON orders.id = order_id"
    };
}

/// Promise 1.
async fn stock(
    connection: &mut PgConnection,
    log: Option<&Log>,
    archived: &Archived,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let negative: i64 = sqlx::query_scalar("SELECT count(*) FROM products WHERE stock < 0")
        .fetch_one(&mut *connection)
        .await?;
    if negative > 0 {
        findings.violations.push(format!("oversold: {negative} products have less than nothing"));
    }
    let homeless: i64 = sqlx::query_scalar(concat!(
        "SELECT count(*) FROM (",
        all_lines!(),
        ") AS line WHERE NOT EXISTS (SELECT FROM products WHERE products.id = product_id)"
    ))
    .fetch_one(&mut *connection)
    .await?;
    if homeless > 0 {
        findings.violations.push(format!("{homeless} lines name a product that is not there"));
    }
    let uncounted: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM orders FULL JOIN \
             (SELECT order_id, count(*) + 1 AS lines FROM order_lines GROUP BY order_id) AS more \
             ON order_id = orders.id \
         WHERE line_count IS DISTINCT FROM coalesce(lines, 1)",
    )
    .fetch_one(&mut *connection)
    .await?;
    if uncounted > 0 {
        findings.violations.push(format!("{uncounted} orders do not have the lines they count"));
    }
    if log.is_none_or(|log| log.initial_stock.is_empty()) {
        findings.unchecked.push("what was put in: no log says so beside the ledger".into());
    }
    let no_stock = BTreeMap::new();
    let told = log.map_or(&no_stock, |log| &log.initial_stock);
    let rows = sqlx::query(concat!(
        "SELECT coalesce(put_in.id, told.id) AS id, put_in.units, told.units AS told, stock, \
             products.held, coalesce(holds.units, 0) AS kept, \
             coalesce(sold.units, 0) + coalesce(archived.units, 0) AS sold \
         FROM (SELECT product_id AS id, sum(delta)::bigint AS units FROM stock_ledger \
               WHERE reason <> 'admission' GROUP BY 1) AS put_in \
         FULL JOIN unnest($1::bigint[], $2::bigint[]) AS told (id, units) USING (id) \
         FULL JOIN products USING (id) \
         LEFT JOIN (SELECT product_id AS id, sum(quantity)::bigint AS units FROM holds \
                    WHERE status = 'active' GROUP BY 1) AS holds USING (id) \
         LEFT JOIN (SELECT product_id AS id, sum(quantity)::bigint AS units FROM (",
        all_lines!(),
        ") AS line WHERE status <> 'cancelled' GROUP BY 1) AS sold USING (id) \
         LEFT JOIN unnest($3::bigint[], $4::bigint[]) AS archived (id, units) USING (id) \
         WHERE stock IS NULL OR put_in.units IS NULL \
             OR put_in.units <> coalesce(told.units, put_in.units) \
             OR put_in.units <> stock + products.held + coalesce(sold.units, 0) \
                 + coalesce(archived.units, 0) \
             OR products.held <> coalesce(holds.units, 0)"
    ))
    .bind(told.keys().copied().collect::<Vec<_>>())
    .bind(told.values().copied().collect::<Vec<_>>())
    .bind(archived.units.keys().copied().collect::<Vec<_>>())
    .bind(archived.units.values().copied().collect::<Vec<_>>())
    .fetch_all(&mut *connection)
    .await?;
    let describe = |row: &PgRow| -> Result<String, sqlx::Error> {
        let id: i64 = row.try_get("id")?;
        let Some(left) = row.try_get::<Option<i64>, _>("stock")? else {
            return Ok(format!("product {id} is gone"));
        };
        let number = |name: &str| -> Result<String, sqlx::Error> {
            let number: Option<i64> = row.try_get(name)?;
            Ok(number.map_or_else(|| "nothing".to_owned(), |number| number.to_string()))
        };
        Ok(format!(
            "product {id}: {} put in by the ledger and {} by the log, {left} left, {} said to be held \
             and {} in holds, {} in orders",
            number("units")?,
            number("told")?,
            number("held")?,
            number("kept")?,
            number("sold")?
        ))
    };
    report_rows(&rows, "stock and orders of products do not add up", describe, findings)?;
    ledger(connection, findings).await
}

/// Each row of the ledger follows from the one before, and the last is the product as it stands.
async fn ledger(connection: &mut PgConnection, findings: &mut Findings) -> anyhow::Result<()> {
    let rows = sqlx::query(
        "SELECT entry.id, entry.version FROM ( \
             SELECT product_id AS id, version, reason, delta, sold, returned, ledger.held, \
                 stock_after, held_after, \
                 lag(stock_after, 1, 0) OVER chain AS stock_before, \
                 lag(held_after, 1, 0) OVER chain AS held_before, \
                 lead(version) OVER chain IS NULL AS last \
             FROM stock_ledger AS ledger \
             WINDOW chain AS (PARTITION BY product_id ORDER BY version)) AS entry \
             LEFT JOIN products USING (id) \
         WHERE entry.stock_after <> entry.stock_before + entry.delta \
             OR (reason = 'admission' AND (entry.delta <> returned - sold - entry.held \
                 OR entry.held_after <> entry.held_before + entry.held)) \
             OR (last AND (products.stock IS DISTINCT FROM entry.stock_after \
                 OR products.held IS DISTINCT FROM entry.held_after))",
    )
    .fetch_all(connection)
    .await?;
    let describe = |row: &PgRow| -> Result<String, sqlx::Error> {
        Ok(format!(
            "product {} at version {}",
            row.try_get::<i64, _>("id")?,
            row.try_get::<i64, _>("version")?
        ))
    };
    report_rows(&rows, "entries of the ledger do not follow", describe, findings)
}

/// Says how many rows break a promise, with a few examples.
fn report_rows(
    rows: &[PgRow],
    what: &str,
    describe: impl Fn(&PgRow) -> Result<String, sqlx::Error>,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let examples: Vec<String> =
        rows.iter().take(EXAMPLES).map(describe).collect::<Result<_, _>>()?;
    findings.violations.push(format!("{} {what}: {}", rows.len(), examples.join("; ")));
    Ok(())
}

/// Promise 3, as far as the database shows it.
async fn done_once(
    connection: &mut PgConnection,
    expectation: Expectation,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let row = sqlx::query(
        "SELECT \
             count(*) FILTER (WHERE (finished_at IS NULL) \
                 = (status IN ('completed', 'failed', 'cancelled'))), \
             count(*) FILTER (WHERE status IN ('completed', 'processing') \
                 AND (attempt < 1 OR processing_at IS NULL)), \
             count(*) FILTER (WHERE status <> 'completed') \
         FROM orders",
    )
    .fetch_one(&mut *connection)
    .await?;
    let (untimed, unbegun, uncompleted): (i64, i64, i64) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if untimed > 0 {
        findings.violations.push(format!(
            "{untimed} orders are final without a time, or have a time and are not final"
        ));
    }
    if unbegun > 0 {
        findings.violations.push(format!("{unbegun} orders were worked on and never begun"));
    }
    let keyless: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM idempotency_keys WHERE NOT CASE kind \
             WHEN 'order' THEN EXISTS (SELECT FROM orders WHERE id = result_id) \
             WHEN 'hold' THEN EXISTS (SELECT FROM holds WHERE id = result_id) \
             ELSE true END",
    )
    .fetch_one(&mut *connection)
    .await?;
    if keyless > 0 {
        findings.violations.push(format!("{keyless} idempotency keys lead to nothing"));
    }
    let misused: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM holds LEFT JOIN orders ON orders.id = order_id \
         WHERE (holds.status = 'used') <> (orders.id IS NOT NULL)",
    )
    .fetch_one(&mut *connection)
    .await?;
    if misused > 0 {
        findings
            .violations
            .push(format!("{misused} holds are used without an order, or the other way"));
    }
    if expectation.all_completed && uncompleted > 0 {
        findings.violations.push(format!("{uncompleted} orders have not reached `completed`"));
    }
    Ok(())
}
