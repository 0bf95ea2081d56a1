//! Claiming orders.

use std::time::Duration;

use holdfast_domain::{CustomerRef, OrderId};

use super::{
    lease::{lease_ran_out, lease_ran_out_detail},
    read::ClaimedOrder,
};
use crate::{
    error::StoreError,
    history::{end_of_history, history_with},
    order_rows::order_line,
    sql::checked,
    store::Store,
    time::{Time, interval},
};

/// The right to work on an order until its lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub order_id: OrderId,
    /// The number of this claim, which every write states.
    pub attempt: i32,
    /// A random number, the same for all orders of a batch; `None` for an order that an earlier release
    /// accepted without it. The number and the order's id together are never used again, while an id alone
    /// can be assigned again after a restore.
    pub nonce: Option<i64>,
    /// The number of attempts since the order was accepted or replayed, including this one; attempts that do
    /// not count (see [`AttemptResult`]) are not included.
    pub tries: i32,
    /// The number of earlier attempts that the receiver may have accepted, because the order was sent
    /// without a clear answer.
    pub unclear: i32,
    /// Whether it was taken over from a worker with an expired lease.
    pub taken_over: bool,
    /// The order, if all of it is in its row and nothing in that row can be large. Other orders must be read
    /// with [`Store::claimed`].
    pub order: Option<ClaimedOrder>,
}

impl Claim {
    /// The order and the attempt, which identify the claim.
    pub fn id(&self) -> (OrderId, i32) {
        (self.order_id, self.attempt)
    }
}

/// A row of [`Store::claim`].
struct ClaimRow {
    id: i64,
    attempt: i32,
    batch_nonce: Option<i64>,
    tries: i32,
    unclear: i32,
    taken_over: bool,
    /// Whether all of the order is in these columns.
    plain: bool,
    product_id: i64,
    quantity: i32,
    unit_price_minor: i64,
    customer_ref: Option<String>,
    /// `None` if it is not finite.
    created_at: Option<Time>,
}

impl From<ClaimRow> for Claim {
    fn from(row: ClaimRow) -> Self {
        Self {
            order_id: OrderId(row.id),
            attempt: row.attempt,
            nonce: row.batch_nonce,
            tries: row.tries,
            unclear: row.unclear,
            taken_over: row.taken_over,
            // An order that cannot be parsed is read separately, and only that order fails.
            order: row.plain_order(),
        }
    }
}

impl ClaimRow {
    fn plain_order(self) -> Option<ClaimedOrder> {
        let created_at = self.created_at.filter(|_| self.plain)?.to_jiff();
        let line = order_line(self.product_id, self.quantity.into(), self.unit_price_minor).ok()?;
        Some(ClaimedOrder {
            returns: 0,
            since: created_at,
            created_at,
            lines: vec![line],
            customer_ref: self.customer_ref.map(CustomerRef::kept),
            metadata: None,
        })
    }
}

impl Store {
    /// Claims the orders in `ids` that are pending, or processing with an expired lease. The others have
    /// ended, are claimed by another worker, or are locked at the moment.
    ///
    /// No large or invalid column makes this fail, so the attempt counts whatever the order does to its
    /// worker afterwards.
    ///
    /// # Errors
    /// The database is not available. Orders may have been claimed; their leases will expire.
    pub async fn claim(&self, ids: &[OrderId], lease: Duration) -> Result<Vec<Claim>, StoreError> {
        let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
        let rows = checked!(
            ClaimRow,
            [
                r"WITH mine AS MATERIALIZED (
                    SELECT free.id, free.status
                    FROM unnest((SELECT $1::bigint[])) AS asked (id)
                    CROSS JOIN LATERAL (
                        SELECT id, status
                        FROM orders
                        WHERE id = asked.id AND CASE status
                            WHEN 'pending' THEN true
                            WHEN 'processing' THEN lease_until < now()
                            ELSE false
                        END
                        FOR UPDATE SKIP LOCKED
                    ) AS free
                )
                UPDATE orders SET
                    status = 'processing',
                    attempt = attempt + 1,
                    lease_until = now() + $2::interval,
                    next_attempt_at = NULL,
                    processing_at = now(),
                    earlier = CASE mine.status
                        WHEN 'processing' THEN" {history_with} {lease_ran_out} {end_of_history} r"
                        ELSE earlier
                    END
                FROM mine
                WHERE orders.id = mine.id" r#"
                RETURNING orders.id, attempt, batch_nonce, attempt - handed_back AS "tries!",
                    attempt - 1 - coalesce(not_taken, 0) AS "unclear!",
                    coalesce(earlier -> -1 ->> 'detail' ="# {lease_ran_out_detail} r#", false)
                        AS "taken_over!",
                    line_count = 1 AND metadata IS NULL AND metadata_text IS NULL
                        AND earlier IS NULL AS "plain!",
                    product_id, quantity, unit_price_minor, customer_ref,
                    CASE WHEN isfinite(created_at) THEN created_at END AS "created_at: Time""#
            ],
            &ids,
            interval(lease),
        )
        .fetch_all(self.work())
        .await?;
        Ok(rows.into_iter().map(Claim::from).collect())
    }
}
