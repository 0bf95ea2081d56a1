//! The claims of workers on orders.
//!
//! A claim is a lease: `processing`, until a time. Each claim raises the order's `attempt`, and every
//! later write names the attempt it belongs to, so that a worker whose lease ran out cannot
//! write over what its successor did.
//!
//! All statements here skip the rows that others have locked and wait for none, so a locked row delays its own
//! order only. Those that write about claims say which of them they missed: [`WrittenClaims`].
//!
//! The statements are written so that no statistics lead the planner astray, as those of a table
//! that a flash sale has just filled do. Each order is looked up by its id, in the order of the
//! array: a subquery with a lock in it is never flattened. An array that comes from a subquery is
//! taken for a short one, whatever its length. And a status within a `CASE` cannot be looked for in
//! the index by status, which would be read from end to end for each order. As plain
//! joins they can be a hundred times slower.
//!
//! All work on many orders in one round trip, each is a transaction of its own, and none waits
//! longer than `statement_timeout` and a little: a server that hangs does not answer its own
//! timeouts.

use std::time::Duration;

use holdfast_domain::{CustomerRef, Metadata, OrderId, OrderLine, OrderStatus, Transition};
use sqlx::{Row as _, postgres::PgRow};

use crate::{
    Store, StoreError,
    history::earlier_with,
    rows::{self, more_lines, order_bytes},
};

mod written;

pub use written::WrittenClaims;
use written::written_and_locked;

/// The longest reason that is kept, in characters.
const REASON_MAX: usize = 1000;

/// The right to work on an order until its lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which order.
    pub order_id: OrderId,
    /// The number of this claim; it goes with every write.
    pub attempt: i32,
    /// Random, the same for all orders of one batch; `None` for an order that a release before this
    /// was known has accepted. With the id it names the order for ever: an id alone comes again after a
    /// restore.
    pub nonce: Option<i64>,
    /// How often it has been tried since it was accepted or replayed, this time included; tries
    /// that do not count (see [`Verdict`]) are left out.
    pub tries: i32,
    /// Whether it was taken from a worker whose lease ran out.
    pub taken_over: bool,
    /// The order, if all of it is in its row and nothing in that row may be large. Any other is to be read by
    /// [`Store::claimed`].
    pub order: Option<ClaimedOrder>,
}

/// An order that was claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedOrder {
    /// How often it went back to pending since then, whether the try counted or not. Stops
    /// counting at 50.
    pub returns: u32,
    /// When it was accepted or, if it was, last replayed.
    pub since: jiff::Timestamp,
    /// When it was accepted.
    pub created_at: jiff::Timestamp,
    /// What was ordered.
    pub lines: Vec<OrderLine>,
    /// The shop's own name for the customer.
    pub customer_ref: Option<CustomerRef>,
    /// What the shop keeps with the order.
    pub metadata: Option<Metadata>,
}

impl Claim {
    /// Which claim it is: the order and the attempt.
    pub fn id(&self) -> (OrderId, i32) {
        (self.order_id, self.attempt)
    }
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
    /// The same, but the try does not count: its failure was not the order's fault.
    Postponed(Duration, String),
    /// Not tried, which does not count either: the worker is shutting down.
    HandedBack,
}

/// Whether a try of an order may have been taken by the one who fulfils it.
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
    pub verdict: Verdict,
    /// Whether the try may have been taken. A claim counts as taken from its beginning, until it ends
    /// with [`Taken::Never`]; so a worker that dies leaves an order that may be fulfilled.
    pub taken: Taken,
}

/// A claim of which nothing more is known counts as taken.
impl From<(OrderId, i32, Verdict)> for EndedClaim {
    fn from((order_id, attempt, verdict): (OrderId, i32, Verdict)) -> Self {
        Self { order_id, attempt, verdict, taken: Taken::Maybe }
    }
}

/// An order that should be in the queue and may not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swept {
    /// Which order.
    pub order_id: OrderId,
    /// The trace context of the request that placed it.
    pub trace_context: Option<String>,
}

/// Which orders should be in the queue and may not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepRule {
    /// How long the message that will be delivered next has been waiting in the queue. An order
    /// that is younger may be in the queue itself, waiting its turn: publishing it again would
    /// only make a long queue longer.
    pub waiting: Duration,
    /// How much longer than that an order must have been pending.
    pub lost_after: Duration,
    /// Longer than any lease and any wait for the next try: a time that is further ahead was written
    /// before the database's clock was set back, and is not waited for.
    pub horizon: Duration,
    /// The most orders of one step.
    pub limit: u32,
}

/// Where a sweep goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweptUpTo(i64);

/// The history of an order that is taken from a worker that was not heard of any more.
macro_rules! lease_ran_out {
    () => {
        earlier_with!(
            "jsonb_build_object('status', 'processing', 'at', orders.processing_at), \
             jsonb_build_object('status', 'pending', 'at', now(), 'detail', \
                 'the lease of its worker ran out')"
        )
    };
}

/// What is read of a claimed order.
#[derive(Debug)]
pub struct ReadOrder {
    /// Which order.
    pub order_id: OrderId,
    /// About how many bytes it has.
    pub bytes: usize,
    /// The order, or why it cannot be read, which concerns no other.
    pub order: Result<ClaimedOrder, StoreError>,
}

/// The most bytes of an order that is read for fulfilment, in the measure of [`Store::claimed`]. What the API
/// takes, and what the version before has taken, has less than half of it.
pub const CLAIMED_BYTES_MAX: u32 = 1024 * 1024;

fn claim(row: &PgRow) -> Result<Claim, StoreError> {
    let plain: bool = row.try_get("plain")?;
    Ok(Claim {
        order_id: OrderId(row.try_get("id")?),
        attempt: row.try_get("attempt")?,
        nonce: row.try_get("batch_nonce")?,
        tries: row.try_get("tries")?,
        taken_over: row.try_get("taken_over")?,
        // One that cannot be understood is read by itself, and fails by itself.
        order: if plain { plain_order(row).ok() } else { None },
    })
}

fn plain_order(row: &PgRow) -> Result<ClaimedOrder, StoreError> {
    let created_at = rows::timestamp(row.try_get("created_us")?)?;
    Ok(ClaimedOrder {
        returns: 0,
        since: created_at,
        created_at,
        lines: vec![rows::first_line(row)?],
        customer_ref: rows::customer_ref(row)?,
        metadata: None,
    })
}

fn claimed_order(row: &PgRow, bytes: i64) -> Result<ClaimedOrder, StoreError> {
    if bytes > i64::from(CLAIMED_BYTES_MAX) {
        return Err(StoreError::Corrupt {
            what: "order",
            reason: format!("it has {bytes} bytes, and at most {CLAIMED_BYTES_MAX} can be sent"),
        });
    }
    let created_at = rows::timestamp(row.try_get("created_us")?)?;
    let earlier = rows::earlier(row.try_get("earlier")?)?;
    // Only a replay puts an order back that somebody asked for by name.
    let replay = earlier.iter().rposition(is_replay);
    let of_now = &earlier[replay.map_or(0, |at| at + 1)..];
    let returns = of_now.iter().filter(|step| step.status == OrderStatus::Pending).count();
    Ok(ClaimedOrder {
        returns: u32::try_from(returns).unwrap_or(u32::MAX),
        since: replay.map_or(created_at, |at| earlier[at].at),
        created_at,
        lines: rows::lines(row)?,
        customer_ref: rows::customer_ref(row)?,
        metadata: row.try_get::<Option<String>, _>("metadata")?.map(Metadata::kept),
    })
}

fn is_replay(step: &Transition) -> bool {
    step.status == OrderStatus::Pending && step.by.is_some()
}

impl Store {
    /// Claims those of `ids` that are to be done: pending, or processing with a lease that ran
    /// out. The others are done, somebody else's, or locked by somebody at this moment.
    ///
    /// Nothing is read that could be large or not be understood: so the attempt counts whatever
    /// the order does to its worker afterwards.
    ///
    /// # Errors
    /// The database is not available. Orders may be claimed then; their lease runs out.
    pub async fn claim(&self, ids: &[OrderId], lease: Duration) -> Result<Vec<Claim>, StoreError> {
        let query = sqlx::query(concat!(
            "WITH mine AS MATERIALIZED ( \
                 SELECT free.id FROM unnest((SELECT $1::bigint[])) AS asked (id) \
                 CROSS JOIN LATERAL ( \
                     SELECT id FROM orders WHERE id = asked.id AND CASE status \
                         WHEN 'pending' THEN true \
                         WHEN 'processing' THEN lease_until < now() ELSE false END \
                     FOR UPDATE SKIP LOCKED) AS free) \
             UPDATE orders SET status = 'processing', attempt = attempt + 1, \
                 lease_until = now() + $2 * interval '1 ms', next_attempt_at = NULL, \
                 processing_at = now(), \
                 earlier = CASE status WHEN 'processing' THEN ",
            lease_ran_out!(),
            " ELSE earlier END \
             FROM mine WHERE orders.id = mine.id \
             RETURNING orders.id, attempt, batch_nonce, attempt - handed_back AS tries, \
                 product_id, quantity, unit_price_minor, customer_ref, \
                 line_count = 1 AND metadata IS NULL AND metadata_text IS NULL \
                     AND earlier IS NULL AND isfinite(created_at) AS plain, \
                 coalesce(earlier -> -1 ->> 'detail' = 'the lease of its worker ran out', false) \
                     AS taken_over, \
                 CASE WHEN isfinite(created_at) \
                     THEN (extract(epoch FROM created_at) * 1000000)::bigint END AS created_us"
        ))
        .bind(ids.iter().map(|id| id.0).collect::<Vec<_>>())
        .bind(millis(lease));
        query.fetch_all(self.work()).await?.iter().map(claim).collect()
    }

    /// Reads claimed orders, in the order of `ids`: the first in any case, and those behind it as long
    /// as all before them have less than `bytes`. Those that are missing are to be asked for again,
    /// except for ones before another that was read: they are gone. An order of more
    /// than [`CLAIMED_BYTES_MAX`] is not read.
    ///
    /// # Errors
    /// The database is not available, or cannot read one of them.
    pub async fn claimed(&self, ids: &[OrderId], bytes: u32) -> Result<Vec<ReadOrder>, StoreError> {
        let query = sqlx::query(concat!(
            "SELECT orders.id, bytes, product_id, quantity, unit_price_minor, customer_ref, \
                 CASE WHEN bytes <= $3 \
                     THEN coalesce(orders.metadata_text, orders.metadata::text) END AS metadata, \
                 CASE WHEN bytes <= $3 THEN earlier::text END AS earlier, \
                 (extract(epoch FROM created_at) * 1000000)::bigint AS created_us, ",
            more_lines!(),
            " FROM (SELECT *, coalesce(sum(bytes) OVER (ORDER BY place \
                     ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS bytes_before \
                 FROM (SELECT asked.place, orders.*, ",
            order_bytes!(with history),
            " AS bytes FROM unnest((SELECT $1::bigint[])) WITH ORDINALITY AS asked (id, place) \
                     CROSS JOIN LATERAL (SELECT * FROM orders WHERE id = asked.id OFFSET 0) \
                         AS orders) AS measured) AS orders \
             WHERE bytes_before < greatest($2, 1) ORDER BY place"
        ))
        .bind(ids.iter().map(|id| id.0).collect::<Vec<_>>())
        .bind(i64::from(bytes))
        .bind(i64::from(CLAIMED_BYTES_MAX));
        let rows = query.fetch_all(self.work()).await?;
        let read = |row: &PgRow| {
            let bytes: i64 = row.try_get("bytes")?;
            Ok(ReadOrder {
                order_id: OrderId(row.try_get("id")?),
                bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
                order: claimed_order(row, bytes),
            })
        };
        rows.iter().map(read).collect()
    }

    /// Makes the leases of these claims last for `lease` from now. A claim whose row is locked
    /// still holds: it holds until a later attempt takes the order over or a sweep puts it back, and neither can
    /// while others have the row. For claims that are neither done nor locked the work should stop.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn extend(
        &self,
        claims: &[(OrderId, i32)],
        lease: Duration,
    ) -> Result<WrittenClaims, StoreError> {
        let mut claims = claims.to_vec();
        claims.sort_unstable();
        let query = sqlx::query(concat!(
            "WITH mine AS MATERIALIZED ( \
                 SELECT held.id, asked.attempt FROM unnest((SELECT $1::bigint[]), (SELECT $2::int[])) \
                     AS asked (id, attempt) \
                 CROSS JOIN LATERAL ( \
                     SELECT id FROM orders WHERE id = asked.id AND attempt = asked.attempt \
                         AND CASE status WHEN 'processing' THEN true ELSE false END \
                     FOR UPDATE SKIP LOCKED) AS held), \
             written AS ( \
                 UPDATE orders SET lease_until = now() + $3 * interval '1 ms' \
                 FROM mine WHERE orders.id = mine.id \
                 RETURNING orders.id), ",
            written_and_locked!()
        ))
        .bind(claims.iter().map(|(id, _)| id.0).collect::<Vec<_>>())
        .bind(claims.iter().map(|(_, attempt)| *attempt).collect::<Vec<_>>())
        .bind(millis(lease));
        WrittenClaims::read(&query.fetch_all(self.work()).await?)
    }

    /// Writes what became of claims, where they still hold. What is locked is to be written again; for
    /// those that are neither done nor locked a later claim has taken over, and its word counts.
    ///
    /// # Errors
    /// The database is not available; it may have been written then. Safe to do again.
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
                Verdict::Completed => ("completed", None, None),
                Verdict::Failed(why) => ("failed", Some(reason(why)), None),
                Verdict::Retry(delay, why) | Verdict::Postponed(delay, why) => {
                    ("pending", Some(reason(why)), Some(millis(*delay)))
                }
                Verdict::HandedBack => ("pending", None, None),
            };
            statuses.push(status);
            failures.push(failure);
            delays.push(delay);
            uncounted
                .push(i32::from(matches!(verdict, Verdict::Postponed(..) | Verdict::HandedBack)));
        }
        let query = sqlx::query(concat!(
            "WITH mine AS MATERIALIZED ( \
                 SELECT held.id, done.attempt, done.status, done.failure, done.delay_ms, done.uncounted, \
                     done.not_taken \
                 FROM unnest((SELECT $1::bigint[]), (SELECT $2::int[]), (SELECT $3::text[]), \
                         (SELECT $4::text[]), (SELECT $5::bigint[]), (SELECT $6::int[]), \
                         (SELECT $7::int[])) \
                     AS done (id, attempt, status, failure, delay_ms, uncounted, not_taken) \
                 CROSS JOIN LATERAL ( \
                     SELECT id FROM orders WHERE id = done.id AND attempt = done.attempt \
                         AND CASE status WHEN 'processing' THEN true ELSE false END \
                     FOR UPDATE SKIP LOCKED) AS held), \
             written AS ( \
             UPDATE orders SET status = mine.status, lease_until = NULL, \
                 failure = coalesce(mine.failure, orders.failure), \
                 next_attempt_at = CASE WHEN mine.status = 'pending' \
                     THEN now() + coalesce(mine.delay_ms, 0) * interval '1 ms' END, \
                 handed_back = handed_back + mine.uncounted, \
                 not_taken = CASE mine.not_taken WHEN 0 THEN orders.not_taken \
                     ELSE coalesce(orders.not_taken, 0) + mine.not_taken END, \
                 finished_at = CASE WHEN mine.status <> 'pending' THEN now() END, \
                 earlier = CASE mine.status WHEN 'pending' THEN ",
            earlier_with!(
                "jsonb_build_object('status', 'processing', 'at', orders.processing_at), \
                 jsonb_build_object('status', 'pending', 'at', now(), 'detail', \
                     coalesce(mine.failure, 'handed back, for its worker was ending'))"
            ),
            " ELSE orders.earlier END \
             FROM mine WHERE orders.id = mine.id \
             RETURNING orders.id), ",
            written_and_locked!()
        ))
        .bind(finished.iter().map(|ended| ended.order_id.0).collect::<Vec<_>>())
        .bind(finished.iter().map(|ended| ended.attempt).collect::<Vec<_>>())
        .bind(statuses)
        .bind(failures)
        .bind(delays)
        .bind(uncounted)
        .bind(not_taken);
        WrittenClaims::read(&query.fetch_all(self.work()).await?)
    }

    /// Finds orders that should be in the queue and may not be, the oldest first: those that have
    /// been pending for too long (from their creation, the end of their retry's delay, or the last
    /// sweep that found them), those whose lease has run out, and those whose times are so far ahead that the clock
    /// must have been set back. Makes them pending and marks
    /// them, so that two sweepers do not both find them. Also says where the next step goes on, if
    /// there may be more.
    ///
    /// # Errors
    /// The database is not available. Orders that were marked are found again when they have been
    /// pending for that long once more.
    pub async fn sweep(
        &self,
        rule: SweepRule,
        from: Option<SweptUpTo>,
    ) -> Result<(Vec<Swept>, Option<SweptUpTo>), StoreError> {
        // Those whose time of creation is ahead, because the clock was set back, are marked with the present time
        // and found once; they say nothing of where the next step goes on.
        // Of the index by status only the old end is read, up to the age of the oldest waiting
        // message: not the whole of a long queue, each time.
        let query = sqlx::query(concat!(
            "WITH late AS MATERIALIZED ( \
                 SELECT id, created_at FROM orders WHERE status = 'pending' \
                     AND created_at <= now() - $2 * interval '1 ms' \
                     AND created_at >= 'epoch'::timestamptz + $4 * interval '1 us' \
                     AND (coalesce(next_attempt_at, created_at) \
                             < now() - ($2 + $3) * interval '1 ms' \
                         OR next_attempt_at > now() + $5 * interval '1 ms') \
                 ORDER BY created_at, id LIMIT $1 FOR UPDATE SKIP LOCKED), \
             left_behind AS MATERIALIZED ( \
                 SELECT id, created_at FROM orders WHERE status = 'processing' \
                     AND created_at <= now() - $2 * interval '1 ms' \
                     AND created_at >= 'epoch'::timestamptz + $4 * interval '1 us' \
                     AND (lease_until < now() OR lease_until > now() + $5 * interval '1 ms') \
                 ORDER BY created_at, id LIMIT $1 FOR UPDATE SKIP LOCKED), \
             late_ahead_of_time AS MATERIALIZED ( \
                 SELECT id, created_at FROM orders WHERE status = 'pending' \
                     AND created_at > now() + $5 * interval '1 ms' \
                     AND (coalesce(next_attempt_at, created_at) \
                             < now() - ($2 + $3) * interval '1 ms' \
                         OR coalesce(next_attempt_at, created_at) > now() + $5 * interval '1 ms') \
                 ORDER BY created_at, id LIMIT $1 FOR UPDATE SKIP LOCKED), \
             left_ahead_of_time AS MATERIALIZED ( \
                 SELECT id, created_at FROM orders WHERE status = 'processing' \
                     AND created_at > now() + $5 * interval '1 ms' \
                     AND (lease_until < now() OR lease_until > now() + $5 * interval '1 ms') \
                 ORDER BY created_at, id LIMIT $1 FOR UPDATE SKIP LOCKED), \
             lost AS ( \
                 SELECT id FROM (TABLE late UNION ALL TABLE left_behind \
                     UNION ALL TABLE late_ahead_of_time UNION ALL TABLE left_ahead_of_time) AS found \
                 ORDER BY created_at, id LIMIT $1) \
             UPDATE orders SET status = 'pending', lease_until = NULL, next_attempt_at = now(), \
                 earlier = CASE status WHEN 'processing' THEN ",
            lease_ran_out!(),
            " ELSE earlier END \
             WHERE id = ANY (ARRAY(SELECT id FROM lost)) \
             RETURNING id, trace_context, CASE WHEN created_at <= now() \
                 THEN (extract(epoch FROM created_at) * 1000000)::bigint ELSE 0 END AS created_us"
        ))
        .bind(i64::from(rule.limit))
        .bind(millis(rule.waiting))
        .bind(millis(rule.lost_after))
        .bind(from.map_or(0, |from| from.0))
        .bind(millis(rule.horizon));
        let rows = query.fetch_all(self.work()).await?;
        let mut up_to = 0;
        let mut swept = Vec::with_capacity(rows.len());
        for row in &rows {
            up_to = up_to.max(row.try_get("created_us")?);
            swept.push(Swept {
                order_id: OrderId(row.try_get("id")?),
                trace_context: row.try_get("trace_context")?,
            });
        }
        // Orders of one batch have one time of creation, so that time is looked at again.
        let more = u32::try_from(swept.len()).is_ok_and(|found| found >= rule.limit);
        Ok((swept, more.then_some(SweptUpTo(up_to))))
    }
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A reason as the database takes it: somebody else's answer may be in it, of any length, and with
/// a NUL, which PostgreSQL keeps in no text.
pub(crate) fn reason(text: &str) -> String {
    text.chars().filter(|char| *char != '\0').take(REASON_MAX).collect()
}
