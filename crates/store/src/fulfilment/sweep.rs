//! Finds orders that were lost on the way to a worker.

use std::time::Duration;

use holdfast_domain::OrderId;
use jiff::Timestamp;

use super::lease::{lease_ran_out, lease_ran_out_detail};
use crate::{
    error::StoreError,
    history::{end_of_history, history_with},
    rows::timestamp,
    sql::checked,
    store::Store,
    time::{Time, interval},
};

/// An order that should be in the queue and may be missing there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swept {
    pub order_id: OrderId,
    /// The trace context of the request that placed it.
    pub trace_context: Option<String>,
}

/// Decides which orders should be in the queue and may be missing there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepRule {
    /// How long the next message has been waiting in the queue. A younger order may be in the queue behind it, so
    /// publishing it again would only make a long queue longer.
    pub waiting: Duration,
    /// An order counts as lost if it has been pending for this much longer than `waiting`.
    pub lost_after: Duration,
    /// The queue has lost everything that it had at this time: orders that have been pending since an earlier time are
    /// lost, whatever `waiting` and `lost_after` are.
    pub lost_before: Option<Timestamp>,
    /// Longer than any lease and any delay before the next attempt. A time that is further in the future was written
    /// before the database's clock was set back, and is ignored.
    pub horizon: Duration,
    /// The most orders of one step.
    pub limit: u32,
}

impl SweepRule {
    /// No message waits in a queue that has lost everything.
    fn waiting(self) -> Duration {
        if self.lost_before.is_some() { Duration::ZERO } else { self.waiting }
    }
}

/// The position from which a sweep continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweptUpTo(i64);

/// Whether a pending order should have been claimed by now.
macro_rules! pending_too_long {
    ($($to:tt)+) => { $crate::sql::part!([r"
        (
            coalesce(next_attempt_at, created_at)
                < coalesce($6, now() - ($2::interval + $3::interval))
            OR next_attempt_at > now() + $5::interval
        )
    "] $($to)+) };
}

/// Like [`pending_too_long`], for an order with a creation time in the future.
macro_rules! pending_ahead_of_time {
    ($($to:tt)+) => { $crate::sql::part!([r"
        (
            coalesce(next_attempt_at, created_at)
                < coalesce($6, now() - ($2::interval + $3::interval))
            OR coalesce(next_attempt_at, created_at) > now() + $5::interval
        )
    "] $($to)+) };
}

/// Whether the claim on a processing order has expired, or its time is too far in the future.
macro_rules! left_behind {
    ($($to:tt)+) => { $crate::sql::part!([r"
        (lease_until < now() OR lease_until > now() + $5::interval)
    "] $($to)+) };
}

/// A row of [`Store::sweep`].
struct SweptRow {
    id: i64,
    trace_context: Option<String>,
    /// `None` if it is in the future.
    created_at: Option<Time>,
}

impl Store {
    /// Finds orders that should be in the queue and may be missing there, oldest first: those that have been pending
    /// for too long (since their creation, the end of their retry delay, or the last sweep that found them), those with
    /// an expired lease, and those with times so far in the future that the clock must have been set back. Makes them
    /// pending and marks them, so that two sweepers do not both find them. Also returns where the next step continues,
    /// if there may be more.
    ///
    /// # Errors
    /// The database is not available. Marked orders are found again after the same time.
    #[allow(clippy::too_many_lines)] // one statement
    pub async fn sweep(
        &self,
        rule: SweepRule,
        from: Option<SweptUpTo>,
    ) -> Result<(Vec<Swept>, Option<SweptUpTo>), StoreError> {
        // Orders with a creation time in the future, because the clock was set back, are marked with the current time
        // and found once; they do not affect where the next step continues. Only the old end of each index is read, up
        // to the age of the oldest waiting message, and not the whole of a long queue each time. Replayed orders, and
        // those of the previous version, are in `orders` itself, and are read along its index by status.
        let rows = checked!(
            SweptRow,
            [
                r"WITH unfinished AS MATERIALIZED (
                    SELECT id, created_at
                    FROM unfinished_orders
                    WHERE created_at <= now() - $2::interval
                        AND created_at >= $4
                        AND CASE status WHEN 'pending' THEN" {pending_too_long} r"
                            ELSE" {left_behind} r"END
                    ORDER BY created_at, id
                    LIMIT $1
                    FOR UPDATE SKIP LOCKED
                ), unfinished_ahead_of_time AS MATERIALIZED (
                    SELECT id, created_at
                    FROM unfinished_orders
                    WHERE created_at > now() + $5::interval
                        AND CASE status WHEN 'pending' THEN" {pending_ahead_of_time} r"
                            ELSE" {left_behind} r"END
                    ORDER BY created_at, id
                    LIMIT $1
                    FOR UPDATE SKIP LOCKED
                ), late AS MATERIALIZED (
                    SELECT id, created_at
                    FROM ONLY orders
                    WHERE status = 'pending'
                        AND created_at <= now() - $2::interval
                        AND created_at >= $4
                        AND" {pending_too_long} r"
                    ORDER BY created_at, id
                    LIMIT $1
                    FOR UPDATE SKIP LOCKED
                ), left_behind AS MATERIALIZED (
                    SELECT id, created_at
                    FROM ONLY orders
                    WHERE status = 'processing'
                        AND created_at <= now() - $2::interval
                        AND created_at >= $4
                        AND" {left_behind} r"
                    ORDER BY created_at, id
                    LIMIT $1
                    FOR UPDATE SKIP LOCKED
                ), late_ahead_of_time AS MATERIALIZED (
                    SELECT id, created_at
                    FROM ONLY orders
                    WHERE status = 'pending'
                        AND created_at > now() + $5::interval
                        AND" {pending_ahead_of_time} r"
                    ORDER BY created_at, id
                    LIMIT $1
                    FOR UPDATE SKIP LOCKED
                ), left_ahead_of_time AS MATERIALIZED (
                    SELECT id, created_at
                    FROM ONLY orders
                    WHERE status = 'processing'
                        AND created_at > now() + $5::interval
                        AND" {left_behind} r"
                    ORDER BY created_at, id
                    LIMIT $1
                    FOR UPDATE SKIP LOCKED
                ), lost AS (
                    SELECT id
                    FROM (
                        TABLE unfinished
                        UNION ALL TABLE unfinished_ahead_of_time
                        UNION ALL TABLE late
                        UNION ALL TABLE left_behind
                        UNION ALL TABLE late_ahead_of_time
                        UNION ALL TABLE left_ahead_of_time
                    ) AS found
                    ORDER BY created_at, id
                    LIMIT $1
                )
                UPDATE orders SET
                    status = 'pending',
                    lease_until = NULL,
                    next_attempt_at = now(),
                    earlier = CASE status
                        WHEN 'processing' THEN" {history_with} {lease_ran_out} {end_of_history} r"
                        ELSE earlier
                    END
                WHERE id = ANY (ARRAY(SELECT id FROM lost))" r#"
                RETURNING id, trace_context,
                    CASE WHEN created_at <= now() THEN created_at END AS "created_at: Time""#
            ],
            i64::from(rule.limit),
            interval(rule.waiting()),
            interval(rule.lost_after),
            Time::from(timestamp(from.map_or(0, |from| from.0))?) as Time,
            interval(rule.horizon),
            rule.lost_before.map(Time::from) as Option<Time>,
        )
        .fetch_all(self.work())
        .await?;
        let created_us = |row: &SweptRow| row.created_at.map(|at| at.to_jiff().as_microsecond());
        let up_to = rows.iter().filter_map(created_us).max().unwrap_or(0).max(0);
        let swept: Vec<_> = rows
            .into_iter()
            .map(|row| Swept { order_id: OrderId(row.id), trace_context: row.trace_context })
            .collect();
        // Orders of a batch have the same creation time, so the next step reads that time again.
        let more = u32::try_from(swept.len()).is_ok_and(|found| found >= rule.limit);
        Ok((swept, more.then_some(SweptUpTo(up_to))))
    }

    /// Pending orders with a next attempt in the future, but within `horizon`, with the time until then, in the order
    /// of their ids. At most `limit` orders with an id above `after`.
    ///
    /// `id + 0` prevents the planner from reading all failed and cancelled orders by their ids.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn set_aside(
        &self,
        horizon: Duration,
        after: OrderId,
        limit: u32,
    ) -> Result<Vec<(Swept, Duration)>, StoreError> {
        let rows = sqlx::query!(
            r#"
            SELECT id AS "id!", trace_context,
                (extract(epoch FROM next_attempt_at - now()) * 1000)::bigint AS "delay_ms!"
            FROM (
                (
                    SELECT id, trace_context, next_attempt_at
                    FROM unfinished_orders
                    WHERE status = 'pending'
                        AND next_attempt_at > now()
                        AND next_attempt_at <= now() + $2::interval
                        AND id > $3
                    ORDER BY id
                    LIMIT $1
                ) UNION ALL (
                    SELECT id, trace_context, next_attempt_at
                    FROM ONLY orders
                    WHERE status = 'pending'
                        AND next_attempt_at > now()
                        AND next_attempt_at <= now() + $2::interval
                        AND id + 0 > $3
                    ORDER BY id + 0
                    LIMIT $1
                )
            ) AS either
            ORDER BY id
            LIMIT $1
            "#,
            i64::from(limit),
            interval(horizon),
            after.0,
        )
        .fetch_all(self.reads())
        .await?;
        let delay = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        let found = rows.into_iter().map(|row| {
            let swept = Swept { order_id: OrderId(row.id), trace_context: row.trace_context };
            (swept, delay(row.delay_ms))
        });
        Ok(found.collect())
    }

    /// The number of pending and processing orders, counted up to `max` if it is given. Does not read completed orders.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn count_unfinished(&self, max: Option<u32>) -> Result<u64, StoreError> {
        let unfinished = sqlx::query_scalar!(
            r#"
            SELECT count(*) AS "unfinished!"
            FROM (
                (
                    SELECT FROM unfinished_orders WHERE status IN ('pending', 'processing') LIMIT $1
                ) UNION ALL (
                    SELECT FROM ONLY orders WHERE status IN ('pending', 'processing') LIMIT $1
                )
                LIMIT $1
            ) AS counted
            "#,
            max.map(i64::from) as Option<i64>,
        )
        .fetch_one(self.reads())
        .await?;
        Ok(u64::try_from(unfinished).unwrap_or(0))
    }
}
