//! What the receiver has fulfilled: no such order is cancelled, for its units would be sold again, and every completed
//! order is among them.
//!
//! Orders are compared by the ids of their messages. Their numbers may be given out again.

use sqlx::{PgConnection, Row as _};

use super::{Findings, Log};

pub(super) async fn check(
    connection: &mut PgConnection,
    log: &Log,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    // Without a receiver that says so, orders are fulfilled by nobody.
    if log.fulfilled.is_empty() {
        return Ok(());
    }
    let rows = sqlx::query(
        "SELECT message, status FROM (SELECT status, 'order_' || id \
                 || coalesce('_' || lpad(to_hex(batch_nonce), 16, '0'), '') AS message \
             FROM orders WHERE status IN ('cancelled', 'completed')) AS ended \
         WHERE (message = ANY($1)) = (status = 'cancelled') ORDER BY message",
    )
    .bind(log.fulfilled.iter().map(String::as_str).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let (mut cancelled, mut completed) = (Vec::new(), Vec::new());
    for row in rows {
        let (message, status): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        if status == "cancelled" { cancelled.push(message) } else { completed.push(message) }
    }
    findings.broken("orders were cancelled or discarded and are fulfilled all the same", cancelled);
    findings.broken("orders are completed and nobody has fulfilled them", completed);
    Ok(())
}
