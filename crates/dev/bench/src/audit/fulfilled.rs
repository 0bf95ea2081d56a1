//! Orders that the receiver has fulfilled. None of them is cancelled, because its units would be sold again, and all
//! completed orders are among them.
//!
//! Orders are compared by their message ids, because order numbers can be assigned again after a restore.

use sqlx::{PgConnection, Row as _};

use super::{Findings, Log};

pub(super) async fn check(
    connection: &mut PgConnection,
    log: &Log,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    // There is nothing to compare without a receiver.
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
    findings.broken("orders were cancelled or discarded although they were fulfilled", cancelled);
    findings.broken("orders are completed but were not fulfilled", completed);
    Ok(())
}
