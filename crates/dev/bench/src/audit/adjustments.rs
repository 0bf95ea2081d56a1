//! Changes of stock by clients: each has its entry in the ledger and its own version.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;

use sqlx::{FromRow, PgConnection};

use super::write::Write;
use super::{Findings, Log};

#[derive(FromRow)]
struct AuditedLedgerEntry {
    product_id: i64,
    version: i64,
    reason: String,
    delta: i64,
    note: Option<String>,
}

pub(super) async fn check(
    connection: &mut PgConnection,
    log: &Log,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let entries = entries(connection, log).await?;
    let (mut lost, mut versions, mut twice) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
    for write in &log.answered {
        let (id, version, delta, note) = match write {
            Write::CreateProduct { id: Some(id), stock, .. } => (*id, 1, *stock, None),
            Write::UpdateProduct { id, stock_change, version: Some(version), .. } => {
                (*id, *version, *stock_change, None)
            }
            Write::AdjustStock { id, delta, note, version: Some(version), .. } => {
                (*id, *version, *delta, Some(note))
            }
            _ => continue,
        };
        // A repeated request is answered with the version of the first one.
        if *versions.entry((id, version)).or_insert(write) != write {
            twice.insert((id, version));
        }
        let entry = entries.get(&(id, version));
        let is_there = match note {
            Some(_) => entry.is_some_and(|it| {
                it.reason == "adjustment" && it.delta == delta && it.note.as_ref() == note
            }),
            // A change of only the name or the price has no entry.
            None => delta == 0 || entry.is_some_and(|it| it.delta == delta),
        };
        if !is_there {
            lost.push(format!("{delta} units of product {id} at version {version}"));
        }
    }
    findings.missing("answered changes of stock are not in the ledger", lost);
    let twice = twice.into_iter().map(|(id, version)| format!("product {id} at version {version}"));
    findings.missing("versions were answered for two changes", twice.collect());
    by_note(connection, log, findings).await
}

/// The entries of the ledger according to the answers.
async fn entries(
    connection: &mut PgConnection,
    log: &Log,
) -> anyhow::Result<HashMap<(i64, i64), AuditedLedgerEntry>> {
    let (ids, versions): (Vec<i64>, Vec<i64>) = log
        .answered
        .iter()
        .filter_map(|write| match write {
            Write::CreateProduct { id: Some(id), .. } => Some((*id, 1)),
            Write::UpdateProduct { id, version: Some(version), .. }
            | Write::AdjustStock { id, version: Some(version), .. } => Some((*id, *version)),
            _ => None,
        })
        .unzip();
    let entries: Vec<AuditedLedgerEntry> = sqlx::query_as(
        "SELECT DISTINCT product_id, version, reason, delta, note FROM stock_ledger \
         JOIN unnest($1::bigint[], $2::bigint[]) AS told (product_id, version) \
             USING (product_id, version)",
    )
    .bind(ids)
    .bind(versions)
    .fetch_all(connection)
    .await?;
    Ok(entries.into_iter().map(|entry| ((entry.product_id, entry.version), entry)).collect())
}

/// No adjustment was made twice, even if it was repeated, and each was made as requested.
async fn by_note(
    connection: &mut PgConnection,
    log: &Log,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let mut asked = HashMap::new();
    for write in log.answered.iter().chain(&log.unanswered) {
        if let Write::AdjustStock { id, delta, note, .. } = write {
            asked.insert(note.as_str(), (*id, *delta));
        }
    }
    let rows: Vec<(i64, i64, String)> =
        sqlx::query_as("SELECT product_id, delta, note FROM stock_ledger WHERE note = ANY($1)")
            .bind(asked.keys().copied().collect::<Vec<_>>())
            .fetch_all(connection)
            .await?;
    let (mut seen, mut twice, mut otherwise) = (BTreeSet::new(), Vec::new(), Vec::new());
    for (product, delta, note) in rows {
        if asked.get(note.as_str()) != Some(&(product, delta)) {
            otherwise.push(note.clone());
        }
        if !seen.insert(note.clone()) {
            twice.push(note);
        }
    }
    findings.broken("changes of stock were requested once and made twice", twice);
    findings.broken("changes of stock differ from the request", otherwise);
    Ok(())
}

/// The units put into each product according to the clients. A range, because an unanswered change may have been made.
pub(super) fn put_in(log: &Log) -> BTreeMap<i64, RangeInclusive<i64>> {
    let mut put_in: BTreeMap<i64, (i64, i64)> =
        log.initial_stock.iter().map(|(id, units)| (*id, (*units, *units))).collect();
    // Without products whose initial stock is unknown.
    for write in &log.answered {
        if let Write::CreateProduct { id: Some(id), stock, .. } = write {
            put_in.insert(*id, (*stock, *stock));
        }
    }
    let mut notes = BTreeSet::new();
    for (write, answered) in log.writes() {
        let (id, delta) = match write {
            Write::UpdateProduct { id, stock_change, .. } => (id, *stock_change),
            Write::AdjustStock { id, delta, note, .. } if notes.insert(note) => (id, *delta),
            _ => continue,
        };
        if let Some((least, most)) = put_in.get_mut(id) {
            *least += if answered { delta } else { delta.min(0) };
            *most += if answered { delta } else { delta.max(0) };
        }
    }
    put_in.into_iter().map(|(id, (least, most))| (id, least..=most)).collect()
}
