//! Orders of all kinds that clients have placed or cancelled.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::PgConnection;

use super::write::{LoggedLine, Write};
use super::{Archived, CHUNK, Findings, Log};

/// An order in the database.
struct AuditedOrder {
    customer: String,
    status: String,
    lines: Vec<LoggedLine>,
}

/// The order of a customer according to the clients. Each customer requests one order.
#[derive(Default)]
struct ExpectedOrder<'a> {
    lines: &'a [LoggedLine],
    /// The ids in the answers.
    answered: BTreeSet<i64>,
}

/// Returns the number of these orders in the database, answered or not.
pub(super) async fn check(
    connection: &mut PgConnection,
    log: &Log,
    archived: &Archived,
    findings: &mut Findings,
) -> anyhow::Result<i64> {
    let mut known: BTreeMap<&str, ExpectedOrder<'_>> = BTreeMap::new();
    for (write, _) in log.writes() {
        if let Write::PlaceOrder { customer, lines, id, .. } = write {
            let known = known.entry(customer).or_default();
            known.lines = lines;
            known.answered.extend(id);
        }
    }
    let orders = orders(connection, &known.keys().copied().collect::<Vec<_>>()).await?;
    let cancelled = cancelled(log);
    let mut by_customer: HashMap<&str, BTreeSet<i64>> = HashMap::new();
    for (id, order) in &orders {
        by_customer.entry(&order.customer).or_default().insert(*id);
    }
    let (mut lost, mut twice, mut parts, mut unasked) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut there_are = 0;
    for (customer, known) in &known {
        let there = by_customer.remove(customer).unwrap_or_default();
        if there.len() > 1 || known.answered.len() > 1 {
            twice.push(format!("`{customer}`: {there:?}, answered {:?}", known.answered));
        }
        for id in known.answered.difference(&there) {
            if archived.may_have(*id) {
                there_are += 1;
            } else {
                lost.push(format!("order {id} of `{customer}` does not exist"));
            }
        }
        there_are += i64::try_from(there.len())?;
        for id in there {
            let Some(order) = orders.get(&id) else { continue };
            let mut asked = known.lines.to_vec();
            asked.sort_unstable();
            if order.lines != asked {
                let found = if known.answered.contains(&id) { &mut lost } else { &mut parts };
                found.push(format!("order {id} of `{customer}` has {:?}", order.lines));
            }
            if order.status == "cancelled" && !cancelled.contains_key(&id) {
                unasked.push(format!("order {id}"));
            }
        }
    }
    findings.missing("answered orders are missing or differ from the request", lost);
    findings.broken("orders were requested once and exist twice", twice);
    findings.broken("unanswered orders exist in part", parts);
    findings.broken("orders are cancelled without a request", unasked);
    let answered = cancelled.into_iter().filter_map(|(id, answered)| answered.then_some(id));
    cancellations(connection, &answered.collect::<Vec<_>>(), archived, findings).await?;
    Ok(there_are)
}

/// Requested cancellations, and whether they were answered.
fn cancelled(log: &Log) -> BTreeMap<i64, bool> {
    let mut cancelled = BTreeMap::new();
    for (write, answered) in log.writes() {
        if let Write::CancelOrder { id } | Write::DiscardDeadLetter { id, .. } = write {
            *cancelled.entry(*id).or_default() |= answered;
        }
    }
    cancelled
}

async fn orders(
    connection: &mut PgConnection,
    customers: &[&str],
) -> anyhow::Result<BTreeMap<i64, AuditedOrder>> {
    let mut orders: BTreeMap<i64, AuditedOrder> = BTreeMap::new();
    for chunk in customers.chunks(CHUNK) {
        // Including the holds that they used. A hold is for one product, and a product is on one line.
        let rows: Vec<(i64, String, String, i64, i32, Option<i64>)> = sqlx::query_as(
            "SELECT line.id, line.customer_ref, line.status, line.product_id, line.quantity, \
                 holds.id AS hold_id \
             FROM (SELECT id, customer_ref, status, product_id, quantity FROM orders \
                       WHERE customer_ref = ANY($1) \
                   UNION ALL SELECT orders.id, customer_ref, status, more.product_id, more.quantity \
                       FROM orders JOIN order_lines AS more ON order_id = orders.id \
                       WHERE customer_ref = ANY($1)) AS line \
             LEFT JOIN holds ON order_id = line.id AND holds.product_id = line.product_id",
        )
        .bind(chunk)
        .fetch_all(&mut *connection)
        .await?;
        for (id, customer, status, product_id, quantity, hold_id) in rows {
            let order = AuditedOrder { customer, status, lines: Vec::new() };
            let order = orders.entry(id).or_insert(order);
            order.lines.push(LoggedLine { product_id, quantity, hold_id });
        }
    }
    for order in orders.values_mut() {
        order.lines.sort_unstable();
    }
    Ok(orders)
}

/// Each is cancelled, and the ledger has its returned units in the same transaction.
async fn cancellations(
    connection: &mut PgConnection,
    ids: &[i64],
    archived: &Archived,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let rows: Vec<(i64, String)> =
        sqlx::query_as("SELECT id, status FROM orders WHERE id = ANY($1)")
            .bind(ids)
            .fetch_all(&mut *connection)
            .await?;
    let statuses: HashMap<i64, String> = rows.into_iter().collect();
    let mut lost = Vec::new();
    for id in ids {
        match statuses.get(id).map(String::as_str) {
            Some("cancelled") => {}
            None if archived.may_have(*id) => {}
            stands => lost.push(format!("order {id} is {}", stands.unwrap_or("not there"))),
        }
    }
    findings.missing("cancelled orders are not cancelled", lost);
    let kept: Vec<(i64, i64)> = sqlx::query_as(
        "WITH ended AS (SELECT DISTINCT finished_at FROM orders \
                 WHERE id = ANY($1) AND status = 'cancelled'), \
             line AS (SELECT id, finished_at, product_id, quantity FROM orders \
                      WHERE status = 'cancelled' AND finished_at IN (TABLE ended) \
                 UNION ALL SELECT orders.id, finished_at, more.product_id, more.quantity \
                      FROM orders JOIN order_lines AS more ON order_id = orders.id \
                      WHERE status = 'cancelled' AND finished_at IN (TABLE ended)), \
             due AS (SELECT finished_at, product_id, sum(quantity) AS units, min(id) AS first \
                     FROM line GROUP BY 1, 2) \
         SELECT first, product_id FROM due \
         WHERE units IS DISTINCT FROM (SELECT sum(returned) FROM stock_ledger AS entry \
             WHERE entry.product_id = due.product_id AND entry.created_at = due.finished_at)",
    )
    .bind(ids)
    .fetch_all(&mut *connection)
    .await?;
    let kept = kept.into_iter().map(|(id, product)| format!("order {id}, product {product}"));
    findings.missing("units of cancelled orders were not returned to stock", kept.collect());
    Ok(())
}
