//! Dead letters: orders that have failed. They stay so until an operator replays or discards them.
//!
//! A replay puts the order back to pending. Its `attempt` goes on, since that is the fence against late
//! workers; but all attempts so far are counted as handed back, so that its tries begin anew.
//! Discarding gives units back to stock, and so goes through admission like any cancellation.

use holdfast_domain::{Order, OrderId, OrderStatus, ProductId};
use jiff::Timestamp;
use sqlx::{Row as _, postgres::PgRow};

use crate::{
    Store, StoreError,
    fulfilment::Swept,
    history::earlier_with,
    rows::{self, order_columns},
};

/// Which dead letters. All that is given must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// With a line of this product.
    pub product: Option<ProductId>,
    /// Failed at this time or later.
    pub failed_since: Option<Timestamp>,
    /// Failed before this time.
    pub failed_before: Option<Timestamp>,
}

/// A page of dead letters; the newest orders come first.
#[derive(Clone, Copy, Debug)]
pub struct DeadLetterPage {
    /// Which.
    pub filter: DeadLetterFilter,
    /// Only what comes after this place: time of creation and id of the last of the page before.
    pub after: Option<(Timestamp, OrderId)>,
    /// At most that many.
    pub limit: i64,
}

/// Who wants something done to an order, and why. Both have been checked for length and NUL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ordered<'a> {
    /// Who.
    pub by: &'a str,
    /// Why, if somebody said so.
    pub note: Option<&'a str>,
}

/// The filter's conditions, $1 to $3.
macro_rules! matching {
    () => {
        "status = 'failed' \
         AND ($1::bigint IS NULL OR product_id = $1 OR (line_count > 1 AND EXISTS ( \
             SELECT FROM order_lines WHERE order_id = orders.id AND product_id = $1))) \
         AND ($2::bigint IS NULL OR finished_at >= 'epoch'::timestamptz + $2 * interval '1 us') \
         AND ($3::bigint IS NULL OR finished_at < 'epoch'::timestamptz + $3 * interval '1 us')"
    };
}

/// Puts the rows of `mine` back to pending; $4 is who, $5 why.
macro_rules! replaying {
    () => {
        concat!(
            " UPDATE orders SET status = 'pending', handed_back = attempt, finished_at = NULL, \
                 lease_until = NULL, next_attempt_at = now(), earlier = ",
            earlier_with!(
                "jsonb_build_object('status', 'processing', 'at', orders.processing_at), \
                 jsonb_build_object('status', 'failed', 'at', orders.finished_at, \
                     'detail', orders.failure), \
                 jsonb_build_object('status', 'pending', 'at', now(), 'by', $4::text, \
                     'detail', $5::text)"
            ),
            " FROM mine WHERE orders.id = mine.id RETURNING orders.id, trace_context"
        )
    };
}

fn micros(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_microsecond)
}

fn replayed(row: &PgRow) -> Result<Swept, StoreError> {
    Ok(Swept {
        order_id: OrderId(row.try_get("id")?),
        trace_context: row.try_get("trace_context")?,
    })
}

impl Store {
    /// A page of dead letters.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn dead_letters(&self, page: &DeadLetterPage) -> Result<Vec<Order>, StoreError> {
        let filter = &page.filter;
        let query = sqlx::query(concat!(
            "SELECT ",
            order_columns!(),
            " FROM orders WHERE ",
            matching!(),
            " AND (created_at, id) < (coalesce( \
                 'epoch'::timestamptz + $4::bigint * interval '1 us', 'infinity'), $5) \
             ORDER BY created_at DESC, id DESC LIMIT $6"
        ))
        .bind(filter.product.map(|product| product.0))
        .bind(micros(filter.failed_since))
        .bind(micros(filter.failed_before))
        .bind(page.after.map(|(created_at, _)| created_at.as_microsecond()))
        .bind(page.after.map_or(i64::MAX, |(_, id)| id.0))
        .bind(page.limit);
        self.within(query).await?.iter().map(rows::order).collect()
    }

    /// Puts those of `ids` that have failed back to pending, with all their tries before them, and
    /// gives them back: they are to be put into the queue. The sweep finds those that are not.
    ///
    /// # Errors
    /// The database is not available; they may be pending then. Safe to do again.
    pub async fn replay(
        &self,
        ids: &[OrderId],
        ordered: Ordered<'_>,
    ) -> Result<Vec<Swept>, StoreError> {
        let mut ids: Vec<_> = ids.iter().map(|id| id.0).collect();
        ids.sort_unstable();
        ids.dedup();
        let query = sqlx::query(concat!(
            "WITH mine AS MATERIALIZED ( \
                 SELECT dead.id FROM unnest((SELECT $1::bigint[])) AS asked (id) \
                 CROSS JOIN LATERAL ( \
                     SELECT id FROM orders WHERE id = asked.id \
                         AND $2::text IS NULL AND $3::text IS NULL \
                         AND CASE status WHEN 'failed' THEN true ELSE false END \
                     FOR UPDATE) AS dead)",
            replaying!()
        ))
        .bind(ids)
        // The numbers of the parameters are those of the other way to replay.
        .bind(None::<&str>)
        .bind(None::<&str>)
        .bind(ordered.by.to_owned())
        .bind(ordered.note.map(ToOwned::to_owned));
        self.within(query).await?.iter().map(replayed).collect()
    }

    /// The same for the dead letters of a filter, the oldest orders first, at most `limit` of them.
    /// Those that somebody else has locked at this moment are passed over.
    ///
    /// # Errors
    /// The database is not available; they may be pending then. Safe to do again.
    pub async fn replay_matching(
        &self,
        filter: &DeadLetterFilter,
        limit: i64,
        ordered: Ordered<'_>,
    ) -> Result<Vec<Swept>, StoreError> {
        let query = sqlx::query(concat!(
            "WITH mine AS MATERIALIZED (SELECT id FROM orders WHERE ",
            matching!(),
            " ORDER BY created_at, id LIMIT $6 FOR UPDATE SKIP LOCKED)",
            replaying!()
        ))
        .bind(filter.product.map(|product| product.0))
        .bind(micros(filter.failed_since))
        .bind(micros(filter.failed_before))
        .bind(ordered.by.to_owned())
        .bind(ordered.note.map(ToOwned::to_owned))
        .bind(limit);
        self.within(query).await?.iter().map(replayed).collect()
    }

    /// Where those of `ids` stand that exist, in no order.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn statuses(
        &self,
        ids: &[OrderId],
    ) -> Result<Vec<(OrderId, OrderStatus)>, StoreError> {
        let query = sqlx::query("SELECT id, status FROM orders WHERE id = ANY ($1)")
            .bind(ids.iter().map(|id| id.0).collect::<Vec<_>>());
        let rows = self.within(query).await?;
        rows.iter()
            .map(|row| {
                let status = rows::word("order status", row.try_get("status")?)?;
                Ok((OrderId(row.try_get("id")?), status))
            })
            .collect()
    }
}
