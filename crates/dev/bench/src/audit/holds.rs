//! Holds that clients have created and released.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::{FromRow, PgConnection};

use super::write::Write;
use super::{Archived, Findings, Log};

/// A hold in the database.
#[derive(FromRow)]
struct AuditedHold {
    id: i64,
    customer: String,
    product_id: i64,
    quantity: i32,
    status: String,
    order_id: Option<i64>,
    /// It ended before it expired.
    ended_early: bool,
}

/// The holds according to the clients.
#[derive(Default)]
struct ExpectedHolds<'a> {
    /// The requests by customer. Each customer requests one hold.
    asked: BTreeMap<&'a str, (i64, i32)>,
    /// The answered holds with their customers.
    made: BTreeMap<i64, &'a str>,
    /// The requested releases, and whether they were answered.
    released: BTreeMap<i64, bool>,
    /// The holds that an order should use, and the order if it was answered.
    used: BTreeMap<i64, Option<i64>>,
}

pub(super) async fn check(
    connection: &mut PgConnection,
    log: &Log,
    archived: &Archived,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let known = known(log);
    let holds = holds(connection, &known.asked.keys().copied().collect::<Vec<_>>()).await?;
    let (mut lost, mut parts, mut twice) = (Vec::new(), Vec::new(), Vec::new());
    let (mut kept, mut unreachable) = (Vec::new(), Vec::new());
    for (id, customer) in &known.made {
        let with_its_order = known.used.get(id).is_some_and(|order| {
            order.map_or(archived.orders > 0, |order| archived.may_have(order))
        });
        match holds.get(id) {
            None if with_its_order => {}
            Some(hold) if hold.customer == *customer => {}
            _ => lost.push(format!("hold {id} of `{customer}` does not exist")),
        }
    }
    let mut seen = BTreeSet::new();
    for (id, hold) in &holds {
        let customer = hold.customer.as_str();
        if !seen.insert(customer) {
            twice.push(format!("`{customer}`"));
        }
        if known.asked.get(customer) != Some(&(hold.product_id, hold.quantity)) {
            let found = if known.made.contains_key(id) { &mut lost } else { &mut parts };
            found.push(format!("hold {id} of `{customer}` differs from the request"));
        }
        if known.released.get(id) == Some(&true) && hold.status != "released" {
            kept.push(format!("hold {id} is {}", hold.status));
        }
        if let Some(Some(order)) = known.used.get(id)
            && hold.order_id != Some(*order)
        {
            lost.push(format!("hold {id} is {}, and order {order} has used it", hold.status));
        }
        let reachable = match hold.status.as_str() {
            "released" => known.released.contains_key(id),
            "used" => known.used.contains_key(id),
            "expired" => !hold.ended_early,
            _ => true,
        };
        if !reachable {
            unreachable.push(format!("hold {id} is {}", hold.status));
        }
    }
    findings.missing("answered holds are missing or differ from the request", lost);
    findings.missing("released holds are not released", kept);
    findings.broken("holds were requested once and exist twice", twice);
    findings.broken("unanswered holds exist in part", parts);
    findings.broken("holds ended without a request", unreachable);
    Ok(())
}

fn known(log: &Log) -> ExpectedHolds<'_> {
    let mut known = ExpectedHolds::default();
    for (write, answered) in log.writes() {
        match write {
            Write::CreateHold { customer, product_id, quantity, id, .. } => {
                known.asked.insert(customer, (*product_id, *quantity));
                known.made.extend(id.map(|id| (id, customer.as_str())));
            }
            Write::ReleaseHold { id } => *known.released.entry(*id).or_default() |= answered,
            Write::PlaceOrder { lines, id, .. } => {
                for hold in lines.iter().filter_map(|line| line.hold_id) {
                    let order = known.used.entry(hold).or_default();
                    *order = order.or(*id);
                }
            }
            _ => {}
        }
    }
    known
}

async fn holds(
    connection: &mut PgConnection,
    customers: &[&str],
) -> anyhow::Result<HashMap<i64, AuditedHold>> {
    let holds: Vec<AuditedHold> = sqlx::query_as(
        "SELECT id, customer_ref AS customer, product_id, quantity, status, order_id, \
             coalesce(ended_at < expires_at, false) AS ended_early \
         FROM holds WHERE customer_ref = ANY($1)",
    )
    .bind(customers)
    .fetch_all(connection)
    .await?;
    Ok(holds.into_iter().map(|hold| (hold.id, hold)).collect())
}
