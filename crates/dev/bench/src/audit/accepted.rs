//! Guarantee 2: the accepted orders of the clients, and the orders in the database.

use std::collections::{BTreeSet, HashMap};

use sqlx::PgConnection;

use super::{Archived, CHUNK, Findings, Log};
use crate::load::Accepted;

/// `others` is the number of orders in the database that were placed by other kinds of writes.
pub(super) async fn accepted(
    connection: &mut PgConnection,
    log: &Log,
    archived: &Archived,
    others: i64,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let distinct: BTreeSet<i64> = log.accepted.iter().map(|order| order.id).collect();
    findings.accepted = Some(log.accepted.len() as u64);
    findings.cut_off = log.cut_off;
    let twice = log.accepted.len() - distinct.len();
    if twice > 0 {
        findings.violations.push(format!("{twice} answers name an order that another named too"));
    }
    let mut lost = Vec::new();
    let mut gone = Vec::new();
    for chunk in log.accepted.chunks(CHUNK) {
        let rows: Vec<(i64, bool)> = sqlx::query_as(
            "SELECT told.id, orders.id IS NULL AS gone \
             FROM unnest($1::bigint[], $2::bigint[], $3::int[]) AS told (id, product_id, quantity) \
             LEFT JOIN orders ON orders.id = told.id \
             WHERE orders.id IS NULL OR orders.product_id <> told.product_id \
                 OR orders.quantity <> told.quantity",
        )
        .bind(chunk.iter().map(|order| order.id).collect::<Vec<_>>())
        .bind(chunk.iter().map(|order| order.product_id).collect::<Vec<_>>())
        .bind(chunk.iter().map(|order| order.quantity).collect::<Vec<_>>())
        .fetch_all(&mut *connection)
        .await?;
        for (id, is_gone) in rows {
            let found = if is_gone { &mut gone } else { &mut lost };
            found.push(id);
        }
    }
    lost.append(&mut not_archived(gone, log, archived)?);
    let told = i64::try_from(distinct.len() - lost.len())?;
    let lost = lost.iter().map(ToString::to_string);
    findings.missing("accepted orders are missing or differ from the request", lost.collect());
    let unheard = findings.orders + archived.orders - told - others;
    if unheard > i64::try_from(log.cut_off)? {
        findings.violations.push(format!(
            "{unheard} orders exist that are in no answer, but the outcome of only {} requests is unknown",
            log.cut_off
        ));
    }
    Ok(())
}

/// The orders that are neither in the tables nor, as requested, in the archive. Without its files, the number of archived
/// orders in the database is used.
fn not_archived(gone: Vec<i64>, log: &Log, archived: &Archived) -> anyhow::Result<Vec<i64>> {
    let Some(first_lines) = &archived.first_lines else {
        let believed = i64::try_from(gone.len())? <= archived.orders;
        return Ok(if believed { Vec::new() } else { gone });
    };
    let asked: HashMap<i64, &Accepted> = log.accepted.iter().map(|it| (it.id, it)).collect();
    let is_archived = |id: &i64| {
        let (found, asked) = (first_lines.get(id), asked.get(id));
        found.zip(asked).is_some_and(|(line, asked)| *line == (asked.product_id, asked.quantity))
    };
    Ok(gone.into_iter().filter(|id| !is_archived(id)).collect())
}
