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

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// Fulfilled.
    Completed,
    /// Never to be tried again, with the reason.
    Failed(String),
    /// To be tried again after the delay, with the reason.
    Retry(Duration, String),
    /// The same, but the try does not count: its failure was not the order's fault.
    Postponed(Duration, String),
    /// Not tried, which does not count either: the worker is shutting down.
    HandedBack,
}

/// Whether the system that fulfils orders may have accepted an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It certainly was not: it was not sent, or was refused.
    Never,
    /// It may have been.
    Maybe,
}

/// A claim that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedClaim {
    /// Which order.
    pub order_id: OrderId,
    /// The number of the claim.
    pub attempt: i32,
    /// What became of it.
    pub verdict: AttemptResult,
    /// Whether the try may have been taken. A claim counts as taken from its beginning, until it ends
    /// with [`Taken::Never`]; so a worker that dies leaves an order that may be fulfilled.
    pub taken: Taken,
}

/// A claim of which nothing more is known counts as taken.
impl From<(OrderId, i32, AttemptResult)> for EndedClaim {
    fn from((order_id, attempt, verdict): (OrderId, i32, AttemptResult)) -> Self {
        Self { order_id, attempt, verdict, taken: Taken::Maybe }
    }
}

/// The column `not_taken` of `orders` once a claim in `mine` is over.
macro_rules! not_taken_after {
    ($($to:tt)+) => { $crate::sql::part!([r"
        CASE mine.not_taken
            WHEN 0 THEN orders.not_taken
            ELSE coalesce(orders.not_taken, 0) + mine.not_taken
        END
    "] $($to)+) };
}

/// The columns of an order that ends: all but those that are NULL then.
macro_rules! moved_columns {
    ($($to:tt)+) => { $crate::sql::part!([r"
        id, product_id, quantity, unit_price_minor, line_count,
        status, attempt, handed_back, not_taken, failure,
        trace_context, batch_nonce, customer_ref, metadata, metadata_text,
        created_at, processing_at, finished_at, earlier
    "] $($to)+) };
}

impl Store {
    /// Writes the results of claims that still hold. An order that ends leaves the table of unfinished orders with the
    /// same statement. Those whose rows are locked are to be written again; those that are
    /// neither done nor locked were taken over by a later claim, whose result counts.
    ///
    /// # Errors
    /// The database is not available; it may have been written then. Safe to do again.
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
                                    coalesce(mine.failure, 'handed back, for its worker was ending'))"
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

/// A reason as the database accepts it: it may contain the answer of another system, of any length and with a NUL, which
/// PostgreSQL does not store in a text.
fn reason(text: &str) -> String {
    text.chars().filter(|char| *char != '\0').take(REASON_MAX).collect()
}
