//! Dead letters that clients have replayed and discarded, according to the orders' history.

use std::collections::{BTreeMap, HashSet};

use sqlx::PgConnection;

use super::write::Write;
use super::{Archived, Findings, Log};

pub(super) async fn check(
    connection: &mut PgConnection,
    log: &Log,
    archived: &Archived,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    // The expected history by order and operator.
    let mut told: BTreeMap<(i64, &str), &str> = BTreeMap::new();
    for write in &log.answered {
        match write {
            Write::ReplayDeadLetter { id, by } => {
                told.insert((*id, by), "pending");
            }
            Write::ReplayDeadLetters { ids, by } => {
                told.extend(ids.iter().map(|id| ((*id, by.as_str()), "pending")));
            }
            Write::DiscardDeadLetter { id, by } => {
                told.insert((*id, by), "cancelled");
            }
            _ => {}
        }
    }
    let ids: Vec<i64> = told.keys().map(|(id, _)| *id).collect();
    let rows: Vec<(i64, String, String)> = sqlx::query_as(
        "SELECT id, step ->> 'by' AS by, step ->> 'status' AS status FROM orders, \
             jsonb_array_elements(coalesce(earlier, '[]')) AS step \
         WHERE id = ANY($1) AND step ? 'by'",
    )
    .bind(ids)
    .fetch_all(connection)
    .await?;
    let steps: HashSet<_> = rows.into_iter().collect();
    let mut lost = Vec::new();
    for ((id, by), status) in told {
        let step = (id, by.to_owned(), status.to_owned());
        if !steps.contains(&step) && !archived.may_have(id) {
            lost.push(format!("order {id}, {status} by `{by}`"));
        }
    }
    findings
        .missing("replayed or discarded dead letters have no such entry in their history", lost);
    Ok(())
}
