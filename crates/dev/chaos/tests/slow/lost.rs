//! One way to lose an answered write for each kind of loss that the audit must find.

mod refused;
mod sales;

use std::collections::BTreeSet;

use holdfast_bench::audit::{Log, Write};

/// A loss.
pub struct Lost {
    pub what: &'static str,
    /// The statement that causes it.
    pub sql: String,
    /// A part of the expected violation.
    pub expected: String,
    /// The clients' record.
    pub log: Log,
}

/// The last matching write that was answered.
fn last<T>(log: &Log, fits: impl Fn(&Write) -> Option<T>) -> T {
    log.answered.iter().rev().find_map(fits).unwrap()
}

/// Each kind of loss of a write in this log.
pub fn each(log: &Log) -> Vec<Lost> {
    let mut all = Vec::new();
    let mut lose = |what, sql: String, expected: String| {
        all.push(Lost { what, sql, expected, log: log.clone() });
    };
    products(log, &mut lose);
    orders(log, &mut lose);
    holds(log, &mut lose);
    api_keys(log, &mut lose);
    sales::sales(log, &mut lose);
    dead_letters(log, &mut lose);
    all.push(half_written(log));
    all.extend(refused::refused(log));
    all
}

type Lose<'a> = &'a mut dyn FnMut(&'static str, String, String);

fn products(log: &Log, lose: Lose) {
    let created = last(log, |it| match it {
        Write::CreateProduct { id, .. } => *id,
        _ => None,
    });
    lose(
        "a product",
        format!(
            "SET session_replication_role = replica; DELETE FROM products WHERE id = {created}"
        ),
        format!("product {created} does not exist"),
    );
    lose(
        "a product that nobody deleted",
        format!(
            "UPDATE products SET retired_at = now() WHERE id = {}",
            log.answered
                .iter()
                .find_map(|it| match it {
                    Write::CreateProduct { id: Some(id), .. } if !is_deleted(log, *id) => Some(*id),
                    _ => None,
                })
                .unwrap()
        ),
        "products are deleted without a request".to_owned(),
    );
    let (updated, version) = last(log, |it| match it {
        Write::UpdateProduct { id, version: Some(version), .. } => Some((*id, *version)),
        _ => None,
    });
    for (what, change, expected) in [
        ("a change of name", "name = 'older'".to_owned(), format!("product {updated} is `older`")),
        ("a change of price", "price_minor = 100001".to_owned(), "at 100001, and ".to_owned()),
        (
            "a version",
            format!("version = {version} - 1"),
            format!("product {updated} is at version {}, and {version} was", version - 1),
        ),
    ] {
        lose(what, format!("UPDATE products SET {change} WHERE id = {updated}"), expected);
    }
    let deleted = last(log, |it| match it {
        Write::DeleteProduct { id } => Some(*id),
        _ => None,
    });
    lose(
        "the removal of a product",
        format!("UPDATE products SET retired_at = NULL WHERE id = {deleted}"),
        format!("deleted products are on sale: product {deleted}"),
    );
    let (product, version, note) = last(log, |it| match it {
        Write::AdjustStock { id, version: Some(version), note, .. } => {
            Some((*id, *version, note.clone()))
        }
        _ => None,
    });
    for (what, change) in [
        ("the note of an adjustment", "note = NULL"),
        ("the units of an adjustment", "delta = delta + 1"),
        ("the reason of an adjustment", "reason = 'set'"),
    ] {
        lose(
            what,
            format!(
                "UPDATE stock_ledger SET {change} WHERE (product_id, version) = ({product}, {version})"
            ),
            format!("of product {product} at version {version}"),
        );
    }
    lose(
        "one of two adjustments",
        format!(
            "INSERT INTO stock_ledger (product_id, version, reason, delta, stock_after, held_after, note) \
             SELECT product_id, 1000000000, reason, delta, stock_after, held_after, note \
             FROM stock_ledger WHERE (product_id, version) = ({product}, {version})"
        ),
        format!("requested once and made twice: {note}"),
    );
}

fn is_deleted(log: &Log, product: i64) -> bool {
    log.writes().any(|(it, _)| *it == Write::DeleteProduct { id: product })
}

fn orders(log: &Log, lose: Lose) {
    let (order, customer) = last(log, |it| match it {
        Write::PlaceOrder { id: Some(id), customer, lines, .. } if lines.len() > 1 => {
            Some((*id, customer.clone()))
        }
        _ => None,
    });
    lose(
        "an order",
        format!("UPDATE orders SET customer_ref = NULL WHERE id = {order}"),
        format!("order {order} of `{customer}` does not exist"),
    );
    lose(
        "a line of an order",
        format!("DELETE FROM order_lines WHERE order_id = {order} AND line = 2"),
        format!("order {order} of `{customer}` has "),
    );
    lose(
        "one of two orders",
        format!(
            "UPDATE orders SET customer_ref = '{customer}' \
             WHERE id = (SELECT min(id) FROM orders WHERE customer_ref IS NOT NULL)"
        ),
        format!("requested once and exist twice: `{customer}`"),
    );
    let (hold, order) = last(log, |it| match it {
        Write::PlaceOrder { id: Some(id), lines, .. } => {
            lines.iter().find_map(|line| Some((line.hold_id?, *id)))
        }
        _ => None,
    });
    lose(
        "the order of a hold",
        format!("UPDATE holds SET order_id = order_id - 1 WHERE id = {hold}"),
        format!("hold {hold} is used, and order {order} has used it"),
    );
    let cancelled = last(log, |it| match it {
        Write::CancelOrder { id } => Some(*id),
        _ => None,
    });
    lose(
        "a cancellation",
        format!("UPDATE orders SET status = 'pending', finished_at = NULL WHERE id = {cancelled}"),
        format!("cancelled orders are not cancelled: order {cancelled} is pending"),
    );
    lose(
        "the units of a cancelled order",
        format!(
            "UPDATE stock_ledger SET returned = 0 WHERE returned > 0 \
             AND created_at = (SELECT finished_at FROM orders WHERE id = {cancelled})"
        ),
        "units of cancelled orders were not returned to stock: order ".to_owned(),
    );
}

fn holds(log: &Log, lose: Lose) {
    let ended: BTreeSet<i64> = log
        .writes()
        .flat_map(|(write, _)| match write {
            Write::ReleaseHold { id } => vec![*id],
            Write::PlaceOrder { lines, .. } => lines.iter().filter_map(|it| it.hold_id).collect(),
            _ => Vec::new(),
        })
        .collect();
    let (hold, customer) = last(log, |it| match it {
        Write::CreateHold { id: Some(id), customer, .. } if !ended.contains(id) => {
            Some((*id, customer.clone()))
        }
        _ => None,
    });
    lose(
        "a hold",
        format!("DELETE FROM holds WHERE id = {hold}"),
        format!("hold {hold} of `{customer}` does not exist"),
    );
    lose(
        "the units of a hold",
        format!("UPDATE holds SET quantity = quantity + 1 WHERE id = {hold}"),
        format!("hold {hold} of `{customer}` differs from the request"),
    );
    for status in ["released", "used"] {
        lose(
            "a hold that nobody ended",
            format!("UPDATE holds SET status = '{status}' WHERE id = {hold}"),
            format!("holds ended without a request: hold {hold} is {status}"),
        );
    }
    let released = last(log, |it| match it {
        Write::ReleaseHold { id } => Some(*id),
        _ => None,
    });
    lose(
        "the release of a hold",
        format!("UPDATE holds SET status = 'active', ended_at = NULL WHERE id = {released}"),
        format!("released holds are not released: hold {released} is active"),
    );
}

fn api_keys(log: &Log, lose: Lose) {
    let revoked: BTreeSet<&String> = log
        .writes()
        .filter_map(|(write, _)| match write {
            Write::RevokeApiKey { id } => Some(id),
            _ => None,
        })
        .collect();
    let key = last(log, |it| match it {
        Write::CreateApiKey { id: Some(id), .. } if !revoked.contains(id) => Some(id.clone()),
        _ => None,
    });
    lose("a key", format!("DELETE FROM api_keys WHERE id = '{key}'"), format!("key {key} `"));
    lose(
        "the scopes of a key",
        format!("UPDATE api_keys SET scopes = '{{admin}}' WHERE id = '{key}'"),
        format!("key {key} allows [\"admin\"]"),
    );
    lose(
        "a key that nobody revoked",
        format!("UPDATE api_keys SET revoked_at = now() WHERE id = '{key}'"),
        format!("keys are revoked without a request: key {key}"),
    );
    let revoked = last(log, |it| match it {
        Write::RevokeApiKey { id } => Some(id.clone()),
        _ => None,
    });
    lose(
        "a revocation",
        format!("UPDATE api_keys SET revoked_at = NULL WHERE id = '{revoked}'"),
        format!("revoked keys are valid: key {revoked}"),
    );
}

fn dead_letters(log: &Log, lose: Lose) {
    let replayed = last(log, |it| match it {
        Write::ReplayDeadLetter { id, by } => Some((*id, by.clone(), "pending")),
        _ => None,
    });
    let many = last(log, |it| match it {
        Write::ReplayDeadLetters { ids, by } => Some((*ids.first()?, by.clone(), "pending")),
        _ => None,
    });
    let discarded = last(log, |it| match it {
        Write::DiscardDeadLetter { id, by } => Some((*id, by.clone(), "cancelled")),
        _ => None,
    });
    for (order, by, status) in [replayed, many, discarded.clone()] {
        lose(
            "what was done to a dead letter",
            format!("UPDATE orders SET earlier = NULL WHERE id = {order}"),
            format!("order {order}, {status} by `{by}`"),
        );
    }
    let order = discarded.0;
    lose(
        "the end of a dead letter",
        format!("UPDATE orders SET status = 'failed' WHERE id = {order}"),
        format!("cancelled orders are not cancelled: order {order} is failed"),
    );
}

/// An unanswered order that exists in part.
fn half_written(log: &Log) -> Lost {
    let mut log = log.clone();
    let whole = |write: &Write| matches!(write, Write::PlaceOrder { lines, .. } if lines.len() > 1);
    let place = log.answered.iter().rposition(whole).unwrap();
    let mut write = log.answered.remove(place);
    let Write::PlaceOrder { id, customer, .. } = &mut write else { unreachable!() };
    let (order, customer) = (id.take().unwrap(), customer.clone());
    log.answered
        .retain(|other| !matches!(other, Write::PlaceOrder { id: Some(id), .. } if *id == order));
    log.unanswered.push(write);
    Lost {
        what: "a part of an unanswered order",
        sql: format!("DELETE FROM order_lines WHERE order_id = {order} AND line = 2"),
        expected: format!("unanswered orders exist in part: order {order} of `{customer}`"),
        log,
    }
}
