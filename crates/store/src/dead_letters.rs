//! Dead letters: failed orders, which stay failed until an operator replays or discards them.
//!
//! A replay sets the order back to pending. Its `attempt` continues, because it is the fence against late workers. But
//! all earlier attempts count as handed back, so that the order gets its full number of attempts again. Discarding
//! returns units to stock, so it uses admission like any cancellation. A replay never waits for a locked row while it
//! has locked others; locked dead letters are retried separately.

use holdfast_domain::{Order, OrderId, OrderStatus, ProductId};
use jiff::Timestamp;
use sqlx::{Postgres, QueryBuilder};

use crate::{
    error::StoreError,
    fulfilment::Swept,
    history::{end_of_history, history_with},
    locked_rows::{ChangedRow, Tried},
    order_rows::{OrderRow, order_bytes, order_columns},
    orders::{OrderPlace, OrderPlaceRow, push_with_product},
    page::{LOOKED_AT_MAX, PAGE_BYTES_MAX, Page, bytes_before},
    reads::Reads,
    rows::word,
    sql::{checked, sql},
    store::Store,
    time::Time,
};

/// A filter of dead letters. All given conditions must be met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// Orders with a line of this product.
    pub product: Option<ProductId>,
    /// Failed at this time or later; not before 1970.
    pub failed_since: Option<Timestamp>,
    /// Failed before this time; not before 1970.
    pub failed_before: Option<Timestamp>,
}

/// A page of dead letters, in ascending or descending order of acceptance.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeadLetterPage {
    pub filter: DeadLetterFilter,
    /// Where the previous page ended.
    pub after: Option<OrderPlace>,
    /// The most entries.
    pub limit: i64,
}

/// The operator who changes an order, and the reason. Both have been checked for length and NUL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribution<'a> {
    /// The operator.
    pub by: &'a str,
    /// The reason, if one was given.
    pub note: Option<&'a str>,
}

/// The result of a replay. All other requested orders are not dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// The orders that are pending again and must be published. The sweep finds those that are not.
    pub orders: Vec<Swept>,
    /// The orders whose rows are locked. Nothing was changed.
    pub locked: Vec<OrderId>,
}

struct ReplayedRow {
    id: i64,
    trace_context: Option<String>,
    locked: bool,
}

/// The direction in which a list of dead letters is read.
#[derive(Clone, Copy)]
enum Way {
    NewestFirst,
    OldestFirst,
}

impl Way {
    fn order(self) -> &'static str {
        match self {
            Self::NewestFirst => " ORDER BY created_at DESC, id DESC",
            Self::OldestFirst => " ORDER BY created_at, id",
        }
    }

    fn beyond(self) -> &'static str {
        match self {
            Self::NewestFirst => "<",
            Self::OldestFirst => ">",
        }
    }
}

impl DeadLetterPage {
    async fn read(&self, reads: Reads<'_>) -> Result<Page<Order, OrderPlace>, StoreError> {
        let way = Way::NewestFirst;
        let mut query = QueryBuilder::new(sql!(
            "SELECT" {order_columns}
            r#", found AS "found!" FROM (SELECT *, coalesce(sum("# {order_bytes} ") OVER ("
        ));
        query.push(way.order()).push(sql!({bytes_before} "FROM (SELECT * FROM ("));
        self.push_looked_at(&mut query, way, self.looked_at());
        query.push(") AS orders");
        self.filter.push(&mut query);
        query.push(way.order()).push(" LIMIT ").push_bind(self.limit.saturating_add(1));
        query.push(") AS orders) AS orders WHERE bytes_before < ").push_bind(PAGE_BYTES_MAX);
        query.push(way.order());
        let rows: Vec<OrderRow> = query.build_query_as().fetch_all(reads.clone()).await?;
        let total = rows.first().map_or(0, |row| row.found);
        let mut found = Page::read(rows, total, self.limit, Order::try_from, OrderPlace::of)?;
        if found.next.is_none() {
            found.next = self.last_looked_at(reads, way).await?;
        }
        Ok(found)
    }

    /// The last order that a page with a filter read, if there may be more after it.
    async fn last_looked_at(
        &self,
        reads: Reads<'_>,
        way: Way,
    ) -> Result<Option<OrderPlace>, StoreError> {
        if self.looked_at() < LOOKED_AT_MAX {
            return Ok(None);
        }
        let mut query = QueryBuilder::new("SELECT id, created_at FROM (");
        self.push_looked_at(&mut query, way, LOOKED_AT_MAX);
        query.push(") AS orders").push(way.order());
        query.push(" OFFSET ").push_bind(LOOKED_AT_MAX - 1).push(" LIMIT 1");
        let last: Option<OrderPlaceRow> = query.build_query_as().fetch_optional(reads).await?;
        Ok(last.map(OrderPlace::from))
    }

    /// The next `limit` failed orders along the index by status. None of them is in the table of unfinished orders.
    fn push_looked_at(&self, query: &mut QueryBuilder<Postgres>, way: Way, limit: i64) {
        query.push("SELECT * FROM ONLY orders WHERE status = 'failed'");
        if let Some(place) = self.after {
            query.push(" AND (created_at, id) ").push(way.beyond());
            query.push(" ('epoch'::timestamptz + ").push_bind(place.created_us);
            query.push(" * interval '1 us', ").push_bind(place.id.0).push(")");
        }
        query.push(way.order()).push(" LIMIT ").push_bind(limit);
    }

    /// The number of orders that a page reads to find those that match its filter.
    fn looked_at(&self) -> i64 {
        let filtered = self.filter != DeadLetterFilter::default();
        if filtered { LOOKED_AT_MAX } else { self.limit.saturating_add(1) }
    }
}

impl DeadLetterFilter {
    fn push(&self, query: &mut QueryBuilder<Postgres>) {
        query.push(" WHERE true");
        if let Some(product) = self.product {
            push_with_product(query, product);
        }
        for (comparison, time) in [(">=", self.failed_since), ("<", self.failed_before)] {
            if let Some(time) = time {
                query.push(" AND finished_at ").push(comparison).push(" ");
                query.push_bind(Time::from(time));
            }
        }
    }
}

impl Store {
    /// A page of dead letters, newest orders first, without their history. It ends early if its rows would have more
    /// than [`PAGE_BYTES_MAX`](crate::PAGE_BYTES_MAX).
    ///
    /// # Errors
    /// The database is not available.
    pub async fn dead_letters(
        &self,
        page: &DeadLetterPage,
    ) -> Result<Page<Order, OrderPlace>, StoreError> {
        self.read(|reads| page.read(reads)).await
    }

    /// Sets the failed orders in `ids` back to pending, with their full number of attempts. Orders with locked rows
    /// are tried again for up to `lock_timeout`, without a connection in between: see `locked_rows`. If the future is
    /// dropped, some orders may be pending.
    ///
    /// # Errors
    /// The database is not available; they may be pending then. Safe to do again.
    pub async fn replay(
        &self,
        ids: &[OrderId],
        ordered: Attribution<'_>,
    ) -> Result<Replayed, StoreError> {
        let mut replayed = match ids {
            // A single order first takes its turn, because its row may be known to be locked.
            [id] => Replayed { locked: vec![*id], ..Replayed::default() },
            ids => self.try_replay(ids, ordered).await?,
        };
        let Some(&first) = replayed.locked.first() else { return Ok(replayed) };
        match self.replay_locked(first, &mut replayed, ordered).await {
            Ok(()) | Err(StoreError::LockTimeout(_)) => Ok(replayed),
            // The caller must learn which orders are pending.
            Err(error) if !replayed.orders.is_empty() => {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::warn!(error, "locked dead letters could not be tried again");
                Ok(replayed)
            }
            Err(error) => Err(error),
        }
    }

    /// Retries orders whose rows were locked, until all are replayed.
    async fn replay_locked(
        &self,
        first: OrderId,
        replayed: &mut Replayed,
        ordered: Attribution<'_>,
    ) -> Result<(), StoreError> {
        let turn = self.turn(ChangedRow::Order(first)).await?;
        let mut tries = turn.tries().await?;
        loop {
            let attempt = self.try_replay(&replayed.locked, ordered).await.map(|again| {
                replayed.orders.extend(again.orders);
                replayed.locked = again.locked;
                let is_locked = !replayed.locked.is_empty();
                if is_locked { Tried::Locked(None) } else { Tried::Done(()) }
            });
            if let Some(()) = tries.again(attempt).await? {
                return Ok(());
            }
        }
    }

    async fn try_replay(
        &self,
        ids: &[OrderId],
        ordered: Attribution<'_>,
    ) -> Result<Replayed, StoreError> {
        let mut ids: Vec<_> = ids.iter().map(|id| id.0).collect();
        ids.sort_unstable();
        ids.dedup();
        let rows = checked!(
            ReplayedRow,
            [
                r"WITH mine AS MATERIALIZED (
                    SELECT dead.id
                    FROM unnest((SELECT $1::bigint[])) AS asked (id)
                    CROSS JOIN LATERAL (
                        SELECT id
                        FROM ONLY orders
                        WHERE id = asked.id AND CASE status WHEN 'failed' THEN true ELSE false END
                        FOR UPDATE SKIP LOCKED
                    ) AS dead
                ), written AS (
                    UPDATE ONLY orders SET
                        status = 'pending',
                        handed_back = attempt,
                        finished_at = NULL,
                        lease_until = NULL,
                        next_attempt_at = now(),
                        earlier =" {history_with} r"
                            jsonb_build_object('status', 'processing', 'at', orders.processing_at),
                            jsonb_build_object('status', 'failed', 'at', orders.finished_at,
                                'detail', orders.failure),
                            jsonb_build_object('status', 'pending', 'at', now(),
                                'by', $2::text, 'detail', $3::text)" {end_of_history} r"
                    FROM mine
                    WHERE orders.id = mine.id
                    RETURNING orders.id, trace_context
                ), missed AS MATERIALIZED (
                    SELECT asked.id FROM unnest((SELECT $1::bigint[])) AS asked (id)
                    EXCEPT
                    SELECT mine.id FROM mine
                )" r#"
                SELECT id AS "id!", trace_context, false AS "locked!"
                FROM written
                UNION ALL
                SELECT still.id, NULL, true
                FROM missed
                CROSS JOIN LATERAL (
                    SELECT id
                    FROM ONLY orders
                    WHERE id = missed.id AND CASE status WHEN 'failed' THEN true ELSE false END
                    OFFSET 0
                ) AS still"#
            ],
            &ids,
            ordered.by,
            ordered.note,
        )
        .fetch_all(self.changes())
        .await?;
        let mut found = Replayed::default();
        for ReplayedRow { id, trace_context, locked } in rows {
            let order_id = OrderId(id);
            if locked {
                found.locked.push(order_id);
            } else {
                found.orders.push(Swept { order_id, trace_context });
            }
        }
        Ok(found)
    }

    /// Like [`Self::replay`], for a page of dead letters, oldest orders first: at most `page.limit` are replayed. Also
    /// returns where the next page begins, if there may be more.
    ///
    /// An order that was replayed from an earlier page and fails again is not included again.
    ///
    /// # Errors
    /// The database is not available; they may be pending then. Safe to do again.
    pub async fn replay_page(
        &self,
        page: &DeadLetterPage,
        ordered: Attribution<'_>,
    ) -> Result<(Replayed, Option<OrderPlace>), StoreError> {
        let way = Way::OldestFirst;
        let mut query = QueryBuilder::new("SELECT id, created_at FROM (");
        page.push_looked_at(&mut query, way, page.looked_at());
        query.push(") AS orders");
        page.filter.push(&mut query);
        query.push(way.order()).push(" LIMIT ").push_bind(page.limit.saturating_add(1));
        let rows: Vec<OrderPlaceRow> = query.build_query_as().fetch_all(self.reads()).await?;
        let places = rows.into_iter().map(OrderPlace::from).collect();
        let mut found = Page::cut(places, page.limit, |place| *place);
        if found.next.is_none() {
            found.next = page.last_looked_at(Reads::on_primary(self.reads()), way).await?;
        }
        let ids: Vec<_> = found.items.iter().map(|place| place.id).collect();
        Ok((self.replay(&ids, ordered).await?, found.next))
    }

    /// The number of dead letters, counted up to `max`.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn count_dead_letters(&self, max: u32) -> Result<u32, StoreError> {
        let dead = sqlx::query_scalar!(
            r#"
            SELECT count(*) AS "dead!"
            FROM (SELECT 1 FROM ONLY orders WHERE status = 'failed' LIMIT $1) AS counted
            "#,
            i64::from(max),
        )
        .fetch_one(self.reads())
        .await?;
        Ok(u32::try_from(dead).unwrap_or(u32::MAX))
    }

    /// The statuses of the orders in `ids` that exist, in no particular order.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn statuses(
        &self,
        ids: &[OrderId],
    ) -> Result<Vec<(OrderId, OrderStatus)>, StoreError> {
        let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
        let rows = sqlx::query!("SELECT id, status FROM orders WHERE id = ANY ($1)", &ids)
            .fetch_all(self.reads())
            .await?;
        rows.into_iter()
            .map(|row| Ok((OrderId(row.id), word("order status", &row.status)?)))
            .collect()
    }
}
