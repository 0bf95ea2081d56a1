//! The end of claims.

use std::time::Duration;

use holdfast_domain::OrderId;
use sqlx::postgres::types::PgInterval;

use super::written::{WrittenClaims, WrittenRow, held_claim, missed_and_written};
use crate::{
    error::StoreError,
    history::{end_of_history, history_with},
    sql::checked,
    store::Store,
    time::interval,
};

/// The longest reason that is kept, in characters.
const REASON_MAX: usize = 1000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// Fulfilled.
    Completed,
    /// The order has failed for good, with the reason.
    Failed(String),
    /// The order must be tried again after the delay, with the reason.
    Retry(Duration, String),
    /// Like [`Self::Retry`], but the attempt does not count, because the order did not cause the failure.
    Postponed(Duration, String),
    /// The order was not tried, because the worker is shutting down. This does not count either.
    HandedBack,
}

/// Whether the system that fulfils orders may have accepted an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Certainly not: the order was not sent, or it was refused.
    Never,
    /// It may have been accepted.
    Maybe,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedClaim {
    pub order_id: OrderId,
    /// The number of the claim.
    pub attempt: i32,
    pub verdict: AttemptResult,
    /// Whether the receiver may have accepted the attempt. A claim counts as possibly accepted from its beginning,
    /// until it ends with [`Taken::Never`]. So if a worker dies, its orders count as possibly fulfilled.
    pub taken: Taken,
}

/// A claim without further information counts as possibly accepted.
impl From<(OrderId, i32, AttemptResult)> for EndedClaim {
    fn from((order_id, attempt, verdict): (OrderId, i32, AttemptResult)) -> Self {
        Self { order_id, attempt, verdict, taken: Taken::Maybe }
    }
}

/// The column `not_taken` of `orders` after a claim in `mine` has ended.
macro_rules! not_taken_after {
    ($($to:tt)+) => { $crate::sql::part!([r"
        CASE mine.not_taken
            WHEN 0 THEN orders.not_taken
            ELSE coalesce(orders.not_taken, 0) + mine.not_taken
        END
    "] $($to)+) };
}

/// The columns of an order that has ended, except those that are then NULL.
macro_rules! moved_columns {
    ($($to:tt)+) => { $crate::sql::part!([r"
        id, product_id, quantity, unit_price_minor, line_count,
        status, attempt, handed_back, not_taken, failure,
        trace_context, batch_nonce, customer_ref, metadata, metadata_text,
        created_at, processing_at, finished_at, earlier
    "] $($to)+) };
}

impl Store {
    /// Writes the results of claims that are still valid. The same statement moves an order that ends out of the table
    /// of unfinished orders. Results for locked rows must be written again. Claims that are neither written nor locked
    /// were taken over by a later claim, and its result counts.
    ///
    /// # Errors
    /// The database is not available; the results may have been written. It is safe to try again.
    #[allow(clippy::too_many_lines)] // one statement
    pub async fn finish(&self, finished: &[EndedClaim]) -> Result<WrittenClaims, StoreError> {
        let mut finished: Vec<_> = finished.iter().collect();
        finished.sort_unstable_by_key(|ended| (ended.order_id, ended.attempt));
        let mut statuses = Vec::with_capacity(finished.len());
        let mut failures = Vec::with_capacity(finished.len());
        let mut delays = Vec::with_capacity(finished.len());
        let mut uncounted = Vec::with_capacity(finished.len());
        let not_taken = finished.iter().map(|ended| i32::from(ended.taken == Taken::Never));
        let not_taken = not_taken.collect::<Vec<_>>();
        for EndedClaim { verdict, .. } in &finished {
            let (status, failure, delay) = match verdict {
                AttemptResult::Completed => ("completed", None, None),
                AttemptResult::Failed(why) => ("failed", Some(reason(why)), None),
                AttemptResult::Retry(delay, why) | AttemptResult::Postponed(delay, why) => {
                    ("pending", Some(reason(why)), Some(interval(*delay)))
                }
                AttemptResult::HandedBack => ("pending", None, None),
            };
            statuses.push(status);
            failures.push(failure);
            delays.push(delay);
            uncounted.push(i32::from(matches!(
                verdict,
                AttemptResult::Postponed(..) | AttemptResult::HandedBack
            )));
        }
        let ids: Vec<_> = finished.iter().map(|ended| ended.order_id.0).collect();
        let attempts: Vec<_> = finished.iter().map(|ended| ended.attempt).collect();
        let rows = checked!(
            WrittenRow,
            [
                r"WITH mine AS MATERIALIZED (
                    SELECT held.id, held.apart AND asked.status <> 'pending' AS moves,
                        asked.attempt, asked.status, asked.failure, asked.delay,
                        asked.uncounted, asked.not_taken
                    FROM unnest(
                        (SELECT $1::bigint[]), (SELECT $2::int[]), (SELECT $3::text[]),
                        (SELECT $4::text[]), (SELECT $5::interval[]), (SELECT $6::int[]),
                        (SELECT $7::int[])
                    ) AS asked (id, attempt, status, failure, delay, uncounted, not_taken)
                    CROSS JOIN LATERAL (" {held_claim} r") AS held
                ), taken_out AS (
                    DELETE FROM unfinished_orders AS orders
                    USING mine
                    WHERE orders.id = mine.id AND mine.moves
                    RETURNING orders.id, product_id, quantity, unit_price_minor, line_count,
                        mine.status, orders.attempt,
                        handed_back + mine.uncounted AS handed_back," {not_taken_after} r"AS not_taken,
                        coalesce(mine.failure, orders.failure) AS failure,
                        trace_context, batch_nonce, customer_ref, metadata, metadata_text,
                        created_at, processing_at, now() AS finished_at, earlier
                ), completed AS (
                    INSERT INTO completed_orders (" {moved_columns} r")
                    SELECT * FROM taken_out WHERE status = 'completed'
                    RETURNING id
                ), failed AS (
                    INSERT INTO orders (" {moved_columns} r")
                    OVERRIDING SYSTEM VALUE
                    SELECT * FROM taken_out WHERE status <> 'completed'
                    RETURNING id
                ), updated AS (
                    UPDATE orders SET
                        status = mine.status,
                        lease_until = NULL,
                        failure = coalesce(mine.failure, orders.failure),
                        next_attempt_at = CASE WHEN mine.status = 'pending'
                            THEN now() + coalesce(mine.delay, '0') END,
                        handed_back = handed_back + mine.uncounted,
                        not_taken =" {not_taken_after} r",
                        finished_at = CASE WHEN mine.status <> 'pending' THEN now() END,
                        earlier = CASE mine.status
                            WHEN 'pending' THEN" {history_with} r"
                                jsonb_build_object('status', 'processing', 'at', orders.processing_at),
                                jsonb_build_object('status', 'pending', 'at', now(), 'detail',
                                    coalesce(mine.failure, 'handed back, because its worker was shutting down'))"
                                {end_of_history} r"
                            ELSE orders.earlier
                        END
                    FROM mine
                    WHERE orders.id = mine.id AND NOT mine.moves
                    RETURNING orders.id
                ), written AS (
                    TABLE completed
                    UNION ALL
                    TABLE failed
                    UNION ALL
                    TABLE updated
                ), " {missed_and_written}
            ],
            &ids,
            &attempts,
            &statuses as &[&str],
            &failures as &[Option<String>],
            &delays as &[Option<PgInterval>],
            &uncounted,
            &not_taken,
        )
        .fetch_all(self.work())
        .await?;
        Ok(WrittenClaims::from(rows))
    }
}

/// A reason in a form that the database accepts. It may contain the answer of another system, which can have any length
/// and can contain NUL. PostgreSQL does not accept NUL in a text.
fn reason(text: &str) -> String {
    text.chars().filter(|char| *char != '\0').take(REASON_MAX).collect()
}
