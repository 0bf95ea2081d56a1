//! The claims of workers on orders.
//!
//! A claim is a lease: `processing`, until a time. Each claim raises the order's `attempt`, and every
//! later write names the attempt it belongs to, so that a worker whose lease ran out cannot
//! write over what its successor did. This also keeps the row locks of two writers apart: no two
//! hold claims with the same attempt, and whoever only looks for work skips locked rows. So no two
//! of these statements can wait for each other in a circle.
//!
//! All work on many orders in one round trip, and each is a transaction of its own.

use std::time::Duration;

use holdfast_domain::{OrderId, ProductId, Quantity};
use sqlx::Row;

use crate::{Store, StoreError, rows::corrupt};

/// An order that a worker may work on until its lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which order.
    pub order_id: OrderId,
    /// The number of this claim; it goes with every write.
    pub attempt: i32,
    /// How often it has been tried, this time included; what was handed back is not counted.
    pub tries: i32,
    /// What was ordered.
    pub product_id: ProductId,
    /// How many units.
    pub quantity: Quantity,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Fulfilled.
    Completed,
    /// Never to be tried again, with the reason.
    Failed(String),
    /// To be tried again after the delay, with the reason.
    Retry(Duration, String),
    /// Not tried: the worker is shutting down.
    HandedBack,
}

/// An order that should be in the queue and may not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swept {
    /// Which order.
    pub order_id: OrderId,
    /// The trace context of the request that placed it.
    pub trace_context: Option<String>,
}

impl Store {
    /// Claims those of `ids` that are to be done: pending, or processing with a lease that ran
    /// out. The others are somebody else's or done.
    ///
    /// # Errors
    /// The database is not available. Orders may be claimed then; their lease runs out.
    pub async fn claim(&self, ids: &[OrderId], lease: Duration) -> Result<Vec<Claim>, StoreError> {
        let rows = sqlx::query(
            "WITH mine AS ( \
                 SELECT id FROM orders WHERE id = ANY($1) AND (status = 'pending' \
                     OR (status = 'processing' AND lease_until < now())) \
                 ORDER BY id FOR UPDATE SKIP LOCKED) \
             UPDATE orders SET status = 'processing', attempt = attempt + 1, \
                 lease_until = now() + $2 * interval '1 ms', next_attempt_at = NULL, \
                 processing_at = now() \
             FROM mine WHERE orders.id = mine.id \
             RETURNING orders.id, attempt, attempt - handed_back AS tries, product_id, quantity",
        )
        .bind(ids.iter().map(|id| id.0).collect::<Vec<_>>())
        .bind(millis(lease))
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let units: i32 = row.try_get("quantity")?;
                Ok(Claim {
                    order_id: OrderId(row.try_get("id")?),
                    attempt: row.try_get("attempt")?,
                    tries: row.try_get("tries")?,
                    product_id: ProductId(row.try_get("product_id")?),
                    quantity: Quantity::new(units.into(), i32::MAX).map_err(corrupt("quantity"))?,
                })
            })
            .collect()
    }

    /// Makes the leases of these claims last for `lease` from now. Gives back the orders whose
    /// claim still holds; for the others the work should stop.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn extend(
        &self,
        claims: &[(OrderId, i32)],
        lease: Duration,
    ) -> Result<Vec<OrderId>, StoreError> {
        let ids: Vec<i64> = sqlx::query_scalar(
            "UPDATE orders SET lease_until = now() + $3 * interval '1 ms' \
             FROM unnest($1::bigint[], $2::int[]) AS mine (id, attempt) \
             WHERE orders.id = mine.id AND orders.attempt = mine.attempt \
                 AND status = 'processing' \
             RETURNING orders.id",
        )
        .bind(claims.iter().map(|(id, _)| id.0).collect::<Vec<_>>())
        .bind(claims.iter().map(|(_, attempt)| *attempt).collect::<Vec<_>>())
        .bind(millis(lease))
        .fetch_all(&self.pool)
        .await?;
        Ok(ids.into_iter().map(OrderId).collect())
    }

    /// Writes what became of claims, where they still hold. Gives back the orders for which it
    /// was written; for the others a later claim has taken over, and its word counts.
    ///
    /// # Errors
    /// The database is not available; it may have been written then. Safe to do again.
    pub async fn finish(
        &self,
        finished: &[(OrderId, i32, Verdict)],
    ) -> Result<Vec<OrderId>, StoreError> {
        let mut statuses = Vec::with_capacity(finished.len());
        let mut failures = Vec::with_capacity(finished.len());
        let mut delays = Vec::with_capacity(finished.len());
        for (_, _, verdict) in finished {
            let (status, failure, delay) = match verdict {
                Verdict::Completed => ("completed", None, None),
                Verdict::Failed(reason) => ("failed", Some(reason.as_str()), None),
                Verdict::Retry(delay, reason) => {
                    ("pending", Some(reason.as_str()), Some(millis(*delay)))
                }
                Verdict::HandedBack => ("pending", None, None),
            };
            statuses.push(status);
            failures.push(failure);
            delays.push(delay);
        }
        let ids: Vec<i64> = sqlx::query_scalar(
            "UPDATE orders SET status = done.status, lease_until = NULL, \
                 failure = coalesce(done.failure, orders.failure), \
                 next_attempt_at = now() + done.delay_ms * interval '1 ms', \
                 handed_back = handed_back + \
                     (done.status = 'pending' AND done.delay_ms IS NULL)::int, \
                 finished_at = CASE WHEN done.status <> 'pending' THEN now() END \
             FROM unnest($1::bigint[], $2::int[], $3::text[], $4::text[], $5::bigint[]) \
                 AS done (id, attempt, status, failure, delay_ms) \
             WHERE orders.id = done.id AND orders.attempt = done.attempt \
                 AND orders.status = 'processing' \
             RETURNING orders.id",
        )
        .bind(finished.iter().map(|(id, _, _)| id.0).collect::<Vec<_>>())
        .bind(finished.iter().map(|(_, attempt, _)| *attempt).collect::<Vec<_>>())
        .bind(statuses)
        .bind(failures)
        .bind(delays)
        .fetch_all(&self.pool)
        .await?;
        Ok(ids.into_iter().map(OrderId).collect())
    }

    /// Finds at most `limit` orders that should be in the queue and may not be: those that have
    /// been pending for longer than `older_than` (from their creation, their next attempt, or the
    /// last sweep that found them), and those whose lease has run out. Marks them, so that two
    /// sweepers do not both find them.
    ///
    /// # Errors
    /// The database is not available. Orders that were marked are found again after `older_than`.
    pub async fn sweep(&self, limit: u32, older_than: Duration) -> Result<Vec<Swept>, StoreError> {
        let rows = sqlx::query(
            "WITH lost AS ( \
                 SELECT id FROM orders WHERE status IN ('pending', 'processing') \
                     AND created_at < now() - least($2, 60000) * interval '1 ms' \
                     AND CASE status \
                         WHEN 'processing' THEN lease_until < now() \
                         ELSE coalesce(next_attempt_at, created_at) \
                             < now() - $2 * interval '1 ms' END \
                 ORDER BY created_at LIMIT $1 FOR UPDATE SKIP LOCKED) \
             UPDATE orders SET status = 'pending', lease_until = NULL, next_attempt_at = now() \
             FROM lost WHERE orders.id = lost.id \
             RETURNING orders.id, trace_context",
        )
        .bind(i64::from(limit))
        .bind(millis(older_than))
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Swept {
                    order_id: OrderId(row.try_get("id")?),
                    trace_context: row.try_get("trace_context")?,
                })
            })
            .collect()
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
