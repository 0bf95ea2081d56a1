//! Writes that were refused, which must have no effect.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use super::write::Write;
use super::{Findings, Log};

pub(super) async fn check(
    connection: &mut PgConnection,
    log: &Log,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    // A repeated request may have been refused once.
    let known: BTreeSet<&str> = log.writes().filter_map(|(write, _)| write.mark()).collect();
    let refused: BTreeSet<&str> = log.refused.iter().filter_map(Write::mark).collect();
    let there: Vec<(String, String)> = sqlx::query_as(
        "WITH refused AS (SELECT unnest($1::text[]) AS mark) \
         SELECT 'product' AS what, mark FROM products JOIN refused ON mark = name \
         UNION ALL SELECT 'change of stock', mark FROM stock_ledger JOIN refused ON mark = note \
         UNION ALL SELECT 'order', mark FROM orders JOIN refused ON mark = customer_ref \
         UNION ALL SELECT 'hold', mark FROM holds JOIN refused ON mark = customer_ref \
         UNION ALL SELECT 'key', mark FROM api_keys JOIN refused ON mark = name \
         UNION ALL SELECT 'sale', mark FROM sales JOIN refused ON mark = name \
         UNION ALL SELECT 'dead letter', mark FROM orders, jsonb_array_elements(earlier) AS step \
             JOIN refused ON mark = step ->> 'by'",
    )
    .bind(refused.difference(&known).copied().collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let there = there.into_iter().map(|(what, mark)| format!("{what} `{mark}`"));
    findings.broken("writes were refused but have an effect", there.collect());
    Ok(())
}
