//! Archives old orders, a limited number at a time.
//!
//! The caller writes the orders of [`Archive::next`] to a file. Then it deletes them with [`Archive::remove`], together
//! with their lines and the holds that they used. The same transaction records what the audit needs: their units by
//! product, and the name of the file.
//!
//! Only orders that cannot change any more are archived: those that were completed or cancelled before a time
//! ([`Cutoff`]). No idempotency key is older than that time, and no running sale counts earlier orders for its limit.
//! Dead letters are never archived.
//!
//! One session does all of this and holds an advisory lock in the meantime. So when another session gets the lock, no
//! transaction of a killed process is still running.

use std::{collections::BTreeMap, ops::Range, sync::Arc, time::Duration};

use holdfast_domain::{Hold, Order, OrderId, OrderStatus, ProductId};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    connections::{Connections, Generations, Session, SetOptions, Transaction},
    error::StoreError,
    holds::{HoldRow, hold_columns},
    order_rows::{OrderRow, order_bytes_with_history, order_columns},
    orders::OrderPlace,
    page::{PAGE_BYTES_MAX, bytes_before},
    rows::timestamp,
    sql::checked,
    store::Store,
    time::{Time, interval},
};

/// The most orders of one step.
pub const ARCHIVED_AT_ONCE_MAX: u32 = 10_000;

/// The advisory lock that is held while orders are archived: "archive" in ASCII.
const LOCK: i64 = 0x61_7263_6869_7665;

/// Locked by each transaction that deletes orders and, shared, by each that writes a sale: see [`archived_orders`].
const DELETING: i64 = LOCK + 1;

/// The minimum age of archived orders.
const AGE_MIN: Duration = Duration::from_hours(24);

const STATUSES: [OrderStatus; 2] = [OrderStatus::Completed, OrderStatus::Cancelled];

/// The exclusive right to archive. It ends with its connection. If a method fails in the database, or is dropped before
/// its answer, all later calls fail; the right then ends when this is dropped.
#[derive(Debug)]
pub struct Archive {
    session: Session,
    identity: Uuid,
}

/// Orders that became final before this time are archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cutoff {
    /// The time.
    pub at: Timestamp,
    /// Why it is not later.
    pub because: CutoffReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutoffReason {
    /// The requested age.
    Age,
    /// An idempotency key of that time still exists.
    Key,
    /// A sale that is not over began then, and counts the orders of its customers since then.
    Sale,
}

/// The progress of the search through the orders.
#[derive(Clone, Copy, Debug, Default)]
pub struct ArchivePlace {
    /// An index into [`STATUSES`].
    status: usize,
    after: Option<OrderPlace>,
}

/// An order that can be archived, with the holds that it used.
#[derive(Clone, Debug)]
pub struct OldOrder {
    pub order: Order,
    /// Its holds, by id.
    pub holds: Vec<Hold>,
}

impl Store {
    /// Begins to archive; `None` if another session is archiving.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn archive(&self) -> Result<Option<Archive>, StoreError> {
        let settings = &self.settings;
        let options = SetOptions {
            connect: settings.session().application_name("holdfast-archive"),
            prepare: None,
            size: 1,
            acquire_timeout: settings.acquire_timeout,
            limit: settings.statement_limit(),
            patient: false,
        };
        let mut session =
            Connections::new(options, Arc::<Generations>::default()).acquire().await?;
        let locked = sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock($1) AS "locked!""#, LOCK)
            .fetch_one(&mut session)
            .await?;
        if !locked {
            return Ok(None);
        }
        let identity =
            sqlx::query_scalar!("SELECT id FROM archive_identity").fetch_one(&mut session).await?;
        Ok(Some(Archive { session, identity }))
    }
}

impl Archive {
    /// Distinguishes the files of this database from those of others. A restored copy has the same identity.
    pub fn identity(&self) -> Uuid {
        self.identity
    }

    /// Orders that became final before this time can be archived. It is at least `age` and at least a day ago.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn cutoff(&mut self, age: Duration) -> Result<Cutoff, StoreError> {
        // A key has the time of its order, and sales count from their start.
        let row = sqlx::query!(
            r#"
            SELECT
                now() - $1::interval AS "age!: Time",
                (SELECT min(created_at) FROM idempotency_keys) AS "key: Time",
                (SELECT min(starts_at) FROM sales WHERE ends_at > now()) AS "sale: Time"
            "#,
            interval(age.max(AGE_MIN)),
        )
        .fetch_one(&mut self.session)
        .await?;
        let mut cutoff = Cutoff { at: row.age.to_jiff(), because: CutoffReason::Age };
        for (at, because) in [(row.key, CutoffReason::Key), (row.sale, CutoffReason::Sale)] {
            if let Some(at) = at.map(Time::to_jiff)
                && at < cutoff.at
            {
                cutoff = Cutoff { at, because };
            }
        }
        Ok(cutoff)
    }

    /// The next orders that can be archived, by status and then in the order of acceptance, and where to continue the
    /// search; `None` at the end. At most `limit` orders and [`PAGE_BYTES_MAX`] bytes are read, so few orders, or none,
    /// may be found although there are more.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn next(
        &mut self,
        cutoff: Cutoff,
        from: ArchivePlace,
        limit: u32,
    ) -> Result<(Vec<OldOrder>, Option<ArchivePlace>), StoreError> {
        let Some(status) = STATUSES.get(from.status) else { return Ok((Vec::new(), None)) };
        let limit = limit.clamp(1, ARCHIVED_AT_ONCE_MAX);
        let (after_us, after_id) =
            from.after.map_or((0, 0), |place| (place.created_us, place.id.0));
        let rows = checked!(
            OrderRow,
            [
                "SELECT" {order_columns} r#", orders.earlier::text AS earlier, found AS "found!"
                FROM (
                    SELECT *, coalesce(sum("# {order_bytes_with_history} r") OVER (
                        ORDER BY created_at, id" {bytes_before} r"
                    FROM (
                        SELECT *
                        FROM orders
                        WHERE status = $1 AND created_at < $2 AND (created_at, id) > ($3, $4)
                        ORDER BY created_at, id
                        LIMIT $5
                    ) AS orders
                ) AS orders
                WHERE bytes_before < $6::bigint
                ORDER BY orders.created_at, orders.id"
            ],
            status.as_str(),
            Time::from(cutoff.at) as Time,
            Time::from(timestamp(after_us)?) as Time,
            after_id,
            i64::from(limit),
            PAGE_BYTES_MAX,
        )
        .fetch_all(&mut self.session)
        .await?;
        let found = rows.first().map_or(0, |row| row.found);
        let looked_at = rows.len();
        let last = rows.last().map(|row| OrderPlace {
            created_us: row.created_at.to_jiff().as_microsecond(),
            id: OrderId(row.id),
        });
        let next = if found < i64::from(limit) && usize::try_from(found) == Ok(looked_at) {
            // The end of this status.
            let status = from.status + 1;
            (status < STATUSES.len()).then_some(ArchivePlace { status, after: None })
        } else {
            Some(ArchivePlace { after: last, ..from })
        };
        let mut orders = Vec::with_capacity(looked_at);
        for row in rows {
            if row.has_unknown_steps() {
                tracing::warn!(
                    order = row.id,
                    "an order is not archived: part of its history is unknown"
                );
                continue;
            }
            let order = Order::try_from(row)?;
            // An order that waited for a long time may be old and have become final only yesterday.
            if order.finished_at.is_some_and(|at| at < cutoff.at) {
                orders.push(order);
            }
        }
        let mut holds = self.holds_of(&orders).await?;
        let with_holds = |order: Order| {
            let holds = holds.remove(&order.id).unwrap_or_default();
            OldOrder { order, holds }
        };
        Ok((orders.into_iter().map(with_holds).collect(), next))
    }

    async fn holds_of(
        &mut self,
        orders: &[Order],
    ) -> Result<BTreeMap<OrderId, Vec<Hold>>, StoreError> {
        let ids: Vec<_> = orders.iter().map(|order| order.id.0).collect();
        let rows = checked!(
            HoldRow,
            ["SELECT" {hold_columns} "FROM holds WHERE order_id = ANY ($1) ORDER BY id"],
            &ids,
        )
        .fetch_all(&mut self.session)
        .await?;
        let mut found = BTreeMap::<_, Vec<_>>::new();
        for row in rows {
            let hold = Hold::try_from(row)?;
            if let Some(order) = hold.order_id {
                found.entry(order).or_default().push(hold);
            }
        }
        Ok(found)
    }

    /// Whether the orders in the file of this name have been deleted.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn knows(&mut self, file: &str) -> Result<bool, StoreError> {
        let known = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM archive_files WHERE name = $1) AS "known!""#,
            file,
        );
        Ok(known.fetch_one(&mut self.session).await?)
    }

    /// Deletes these orders with their lines and holds: all of them, or none. The file with this name must contain
    /// them.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if not all of them exist and are old, or a sale that is not over counts orders from
    /// before the cutoff. The database refuses, or is not available. After a new session has got the lock,
    /// [`Self::knows`] says whether the orders were deleted.
    pub async fn remove(
        &mut self,
        file: &str,
        cutoff: Cutoff,
        orders: &[OrderId],
    ) -> Result<(), StoreError> {
        let mut transaction =
            Transaction::begin(&mut self.session).await.map_err(|(_, error)| error)?;
        // Sales may have been written since the cutoff was computed.
        sqlx::query_scalar!("SELECT pg_advisory_xact_lock($1)", DELETING)
            .fetch_one(&mut transaction)
            .await?;
        let ids: Vec<_> = orders.iter().map(|id| id.0).collect();
        let gone = sqlx::query_scalar!(
            r#"
            WITH gone AS (
                DELETE FROM orders
                WHERE id = ANY ($1) AND status = ANY ($2) AND finished_at < $3
                    AND NOT EXISTS (SELECT FROM sales WHERE ends_at > now() AND starts_at < $3)
                RETURNING id, product_id, quantity, status
            ), more AS (
                DELETE FROM order_lines
                WHERE order_id = ANY ($1)
                RETURNING order_id, product_id, quantity
            ), used AS (
                DELETE FROM holds
                WHERE order_id = ANY ($1)
            ), kept AS (
                INSERT INTO archived_units (product_id, units)
                SELECT product_id, sum(quantity)
                FROM (
                    SELECT product_id, quantity
                    FROM gone
                    WHERE status <> 'cancelled'
                    UNION ALL
                    SELECT more.product_id, more.quantity
                    FROM more JOIN gone ON gone.id = order_id
                    WHERE status <> 'cancelled'
                ) AS line
                GROUP BY product_id
                ORDER BY product_id
                ON CONFLICT (product_id) DO UPDATE
                    SET units = archived_units.units + excluded.units
            )
            INSERT INTO archive_files (name, orders, completed)
            SELECT $4, count(*), count(*) FILTER (WHERE status = 'completed')
            FROM gone
            HAVING count(*) > 0
            RETURNING orders
            "#,
            &ids,
            &STATUSES.map(|status| status.as_str().to_owned()),
            Time::from(cutoff.at) as Time,
            file,
        )
        .fetch_optional(&mut transaction)
        .await?
        .unwrap_or(0);
        if usize::try_from(gone) != Ok(orders.len()) {
            transaction.rollback().await?;
            return Err(StoreError::Corrupt {
                what: "order in a final state",
                reason: format!("of {} to be archived, only {gone} can be deleted", orders.len()),
            });
        }
        transaction.commit().await
    }

    /// Allows other sessions to archive.
    ///
    /// # Errors
    /// The connection is lost, which has the same effect.
    pub async fn close(mut self) -> Result<(), StoreError> {
        // The lock would also end with the connection. This way, it is free when this returns.
        sqlx::query_scalar!("SELECT pg_advisory_unlock($1)", LOCK)
            .fetch_one(&mut self.session)
            .await?;
        Ok(())
    }
}

/// Returns those of the products that may lack orders: orders that were accepted at `since` or later, and archived in
/// the period `archived`. From then on, no order is archived until the transaction ends.
pub(crate) async fn archived_orders(
    transaction: &mut Transaction,
    products: &[i64],
    since: Timestamp,
    archived: Range<Timestamp>,
) -> Result<Vec<ProductId>, StoreError> {
    sqlx::query_scalar!("SELECT pg_advisory_xact_lock_shared($1)", DELETING)
        .fetch_one(&mut *transaction)
        .await?;
    // Each order in a file is older than the file by at least the minimum age.
    let missing = sqlx::query_scalar!(
        r#"
        SELECT product_id
        FROM archived_units
        WHERE product_id = ANY ($1) AND EXISTS (
            SELECT FROM archive_files
            WHERE created_at - $2::interval > $3 AND created_at >= $4 AND created_at < $5
        )
        ORDER BY product_id
        "#,
        products,
        interval(AGE_MIN),
        Time::from(since) as Time,
        Time::from(archived.start) as Time,
        Time::from(archived.end) as Time,
    )
    .fetch_all(transaction)
    .await?;
    Ok(missing.into_iter().map(ProductId).collect())
}
