//! The one statement that writes a batch.
//!
//! Its parameters are arrays, one for each column of each kind of record, which the server unnests. So a batch of any
//! size needs one round trip. Most batches have only plain orders (of one line, from stock). They use a shorter
//! statement, without the parts that they do not need.
//!
//! Both statements are made of [units](super::parameters), so they are not checked at compile time. Each text is built
//! once and then always the same, so each connection prepares it once.

use std::{collections::BTreeMap, sync::OnceLock};

use holdfast_domain::{AllocatedLine, HoldId, OrderId, ProductChange, ProductId};
use sqlx::{FromRow, postgres::PgExecutor};

use super::{
    lock::LockedRow,
    parameters::{Parameter, ParameterRows, Parameters, rows},
    records::{OrderRecord, Records, Stored},
};
use crate::{
    error::StoreError,
    time::{Time, interval},
    tuple_ids::TupleId,
};

/// The units of each batch.
struct Common {
    change: ParameterRows,
    nonce: Parameter,
    order: ParameterRows,
}

/// The units of a batch with more than plain orders.
struct Other {
    line: ParameterRows,
    used_hold: ParameterRows,
    ended_hold: ParameterRows,
    cancelled_order: ParameterRows,
    hold: ParameterRows,
}

/// The answer to the statement.
#[derive(FromRow)]
struct WrittenIds {
    /// The ids of the new orders, in the order of the records.
    orders: Option<Vec<i64>>,
    /// The ids of the new holds, in the order of the records.
    holds: Option<Vec<i64>>,
    /// The changed products.
    changed: Option<Vec<i64>>,
    /// Where the new versions of their rows are.
    tuple_ids: Option<Vec<String>>,
    created_at: Time,
    /// How many idempotency keys were written.
    keyed: i64,
}

impl Records<'_> {
    /// Runs the statement, and sets in the records what is stored of new orders and holds. Returns the tuple ids of the
    /// products' new versions. If this fails, the caller must roll the transaction back.
    pub(super) async fn write(
        &mut self,
        changes: &[ProductChange],
        locked: &BTreeMap<ProductId, LockedRow>,
        nonce: i64,
        connection: impl PgExecutor<'_>,
    ) -> Result<Vec<(ProductId, TupleId)>, StoreError> {
        static PLAIN: OnceLock<String> = OnceLock::new();
        static WHOLE: OnceLock<String> = OnceLock::new();

        let mut parameters = Parameters::default();
        let common = self.common(changes, locked, nonce, &mut parameters)?;
        let sql = if self.is_plain() {
            PLAIN.get_or_init(|| plain_statement(&common))
        } else {
            let other = self.other(&mut parameters)?;
            WHOLE.get_or_init(|| whole_statement(&common, &other))
        };
        let query = sqlx::query_as_with(sql.as_str(), parameters.into_arguments());
        let written: WrittenIds = query.fetch_one(connection).await?;

        let keys = self.orders.iter().map(|order| order.key);
        let keys = keys.chain(self.holds.iter().map(|hold| hold.key)).flatten().count();
        if usize::try_from(written.keyed) != Ok(keys) {
            return Err(StoreError::KeyTaken);
        }
        let tuple_ids = new_tuple_ids(written.changed, written.tuple_ids)?;
        if tuple_ids.len() != changes.len() {
            return Err(StoreError::Corrupt {
                what: "lock",
                reason: "a product's row does not have the tuple id that was locked".to_owned(),
            });
        }
        let created_at = written.created_at.to_jiff();
        let order_ids = ids(written.orders, "orders", self.orders.len())?;
        for (order, id) in self.orders.iter_mut().zip(order_ids) {
            *order.stored = Some(Stored { id: OrderId(id), created_at });
        }
        let hold_ids = ids(written.holds, "holds", self.holds.len())?;
        for (hold, id) in self.holds.iter_mut().zip(hold_ids) {
            *hold.stored = Some(Stored { id: HoldId(id), created_at });
        }
        Ok(tuple_ids)
    }

    fn is_plain(&self) -> bool {
        let plain = |order: &OrderRecord<'_>| matches!(order.lines, [line] if line.hold.is_none());
        self.holds.is_empty()
            && self.ended.is_empty()
            && self.cancelled.is_empty()
            && self.orders.iter().all(plain)
    }

    fn common(
        &self,
        changes: &[ProductChange],
        locked: &BTreeMap<ProductId, LockedRow>,
        nonce: i64,
        parameters: &mut Parameters,
    ) -> Result<Common, sqlx::Error> {
        let row = |change: &ProductChange| locked.get(&change.product_id);
        let tuple_id = |change: &ProductChange| row(change).map(|row| row.tuple_id.to_string());
        let change = rows!(
            parameters,
            change {
                product_id: "bigint[]" = column(changes, |change| change.product_id.0),
                version: "bigint[]" = column(changes, |change| change.version),
                delta: "bigint[]" = column(changes, |change| change.delta),
                stock_after: "bigint[]" = column(changes, |change| change.left.units()),
                held_after: "bigint[]" = column(changes, |change| change.held_after),
                sold: "bigint[]" = column(changes, |change| change.sold),
                returned: "bigint[]" = column(changes, |change| change.returned),
                held: "bigint[]" = column(changes, |change| change.held),
                tuple_id: "text[]::tid[]" = column(changes, tuple_id),
                is_entered: "boolean[]" =
                    column(changes, |change| row(change).is_none_or(|row| row.enters(change))),
                sold_before: "bigint[]" =
                    column(changes, |change| row(change).map_or(0, |row| row.sold_since_entry)),
            }
        );
        let nonce = parameters.add(nonce)?;
        let orders = &self.orders;
        let line_count = |order: &OrderRecord<'_>| {
            let count = order.lines.len();
            (count > 1).then(|| i16::try_from(count).unwrap_or(i16::MAX))
        };
        let order = rows!(
            parameters,
            new_order {
                product_id: "bigint[]" = first_lines(orders, |line| line.product_id.0),
                quantity: "int[]" = first_lines(orders, |line| line.quantity.units()),
                unit_price: "bigint[]" = first_lines(orders, |line| line.unit_price.minor()),
                line_count: "smallint[]" = sparse(orders, line_count),
                trace_context: "text[]" = sparse(orders, |order| order.trace_context),
                customer_ref: "text[]" = sparse(orders, |order| order.customer_ref),
                metadata: "text[]" = sparse(orders, |order| order.metadata),
                key: "uuid[]" = sparse(orders, |order| order.key.map(|key| key.key)),
                fingerprint: "bigint[]" =
                    sparse(orders, |order| order.key.map(|key| key.fingerprint)),
            }
        );
        Ok(Common { change, nonce, order: order.with_place() })
    }

    fn other(&self, parameters: &mut Parameters) -> Result<Other, sqlx::Error> {
        let places = (1_i64..).zip(&self.orders);
        let lines = places.flat_map(|(place, order)| {
            (1_i16..).zip(order.lines).map(move |(number, line)| (place, number, line))
        });
        let lines: Vec<_> = lines.collect();
        let further: Vec<_> = lines.iter().filter(|(_, number, _)| *number > 1).collect();
        let line = rows!(
            parameters,
            further_line {
                place: "bigint[]" = column(&further, |(place, ..)| *place),
                line: "smallint[]" = column(&further, |(_, number, _)| *number),
                product_id: "bigint[]" = column(&further, |(.., line)| line.product_id.0),
                quantity: "int[]" = column(&further, |(.., line)| line.quantity.units()),
                unit_price: "bigint[]" = column(&further, |(.., line)| line.unit_price.minor()),
            }
        );
        let used: Vec<_> =
            lines.iter().filter_map(|(place, _, line)| Some((line.hold?.0, *place))).collect();
        let used_hold = rows!(
            parameters,
            used_hold {
                id: "bigint[]" = column(&used, |(id, _)| *id),
                place: "bigint[]" = column(&used, |(_, place)| *place),
            }
        );
        let ended_hold = rows!(
            parameters,
            ended_hold {
                id: "bigint[]" = column(&self.ended, |ended| ended.id.0),
                status: "text[]" = column(&self.ended, |ended| ended.status.as_str()),
            }
        );
        let cancelled_order = rows!(
            parameters,
            cancelled_order {
                id: "bigint[]" = column(&self.cancelled, |order| order.id.0),
                by: "text[]" =
                    column(&self.cancelled, |order| order.ordered.map(|ordered| ordered.by)),
                note: "text[]" = column(&self.cancelled, |order| order.ordered?.note),
            }
        );
        let holds = &self.holds;
        let hold = rows!(
            parameters,
            new_hold {
                product_id: "bigint[]" = column(holds, |hold| hold.product_id.0),
                quantity: "int[]" = column(holds, |hold| hold.quantity.units()),
                unit_price: "bigint[]" = column(holds, |hold| hold.unit_price.minor()),
                lasts: "interval[]" = column(holds, |hold| interval(hold.lasts)),
                customer_ref: "text[]" = column(holds, |hold| hold.customer_ref),
                key: "uuid[]" = column(holds, |hold| hold.key.map(|key| key.key)),
                fingerprint: "bigint[]" = column(holds, |hold| hold.key.map(|key| key.fingerprint)),
            }
        );
        Ok(Other { line, used_hold, ended_hold, cancelled_order, hold: hold.with_place() })
    }
}

/// A column of the records.
fn column<'r, R, T>(records: &'r [R], value: impl Fn(&'r R) -> T) -> Vec<T> {
    records.iter().map(value).collect()
}

/// A column of the first lines of orders.
fn first_lines<T>(orders: &[OrderRecord<'_>], value: impl Fn(&AllocatedLine) -> T) -> Vec<T> {
    orders.iter().filter_map(|order| order.lines.first()).map(value).collect()
}

/// A column of the records; `None` if no record has a value in it, so that the server reads no array of NULLs.
fn sparse<'r, R, T>(
    records: &'r [R],
    value: impl Fn(&'r R) -> Option<T>,
) -> Option<Vec<Option<T>>> {
    let first = records.iter().position(|record| value(record).is_some())?;
    let mut column = Vec::with_capacity(records.len());
    column.resize_with(first, || None);
    column.extend(records[first..].iter().map(value));
    Some(column)
}

/// The stock, its ledger, and the orders with their first lines. The rows of the products are locked, so they are still
/// where they were found. The orders get their ids here, so that the ids can be returned in the order of the array;
/// `RETURNING` guarantees no order.
fn common_parts(Common { change, nonce, order }: &Common) -> String {
    format!(
        r"
        change AS MATERIALIZED (
            SELECT * FROM {change}
        ), changed AS (
            UPDATE products SET
                stock = products.stock + change.delta,
                held = products.held + change.held,
                version = products.version + 1,
                updated_at = now(),
                sold_since_entry = CASE WHEN change.is_entered THEN 0
                    ELSE products.sold_since_entry + change.sold END,
                entered_at = CASE WHEN change.is_entered THEN now() ELSE entered_at END
            FROM change
            WHERE products.ctid = change.tuple_id AND id = change.product_id
            RETURNING id, products.ctid::text AS tuple_id
        ), entered AS (
            INSERT INTO stock_ledger (product_id, version, reason, delta, stock_after,
                held_after, sold, returned, held, nonce)
            SELECT product_id, version, 'admission', delta - sold_before, stock_after,
                held_after, sold + sold_before, returned, held, {nonce}
            FROM change
            WHERE is_entered
        ), placed AS MATERIALIZED (
            SELECT nextval('orders_id_seq') AS id, new_order.* FROM {order}
        ), written AS (
            INSERT INTO unfinished_orders (id, product_id, quantity, unit_price_minor, line_count,
                trace_context, customer_ref, metadata, metadata_text, batch_nonce)
            SELECT id, product_id, quantity, unit_price, coalesce(line_count, 1),
                trace_context, customer_ref, metadata::jsonb, metadata, {nonce}
            FROM placed
        )"
    )
}

fn plain_statement(common: &Common) -> String {
    // Keys are written in sorted order, so that two batches with the same keys do not deadlock.
    format!(
        r"WITH {common_parts}, keyed AS (
            INSERT INTO idempotency_keys (key, fingerprint, kind, result_id)
            SELECT key, fingerprint, 'order', id
            FROM placed
            WHERE key IS NOT NULL
            ORDER BY key
            ON CONFLICT DO NOTHING
            RETURNING 1
        )
        SELECT
            array_agg(id ORDER BY place) AS orders,
            NULL::bigint[] AS holds,
            (SELECT array_agg(id) FROM changed) AS changed,
            (SELECT array_agg(tuple_id) FROM changed) AS tuple_ids,
            now() AS created_at,
            (SELECT count(*) FROM keyed) AS keyed
        FROM placed",
        common_parts = common_parts(common)
    )
}

fn whole_statement(common: &Common, other: &Other) -> String {
    let Other { line, used_hold, ended_hold, cancelled_order, hold } = other;
    format!(
        r"WITH {common_parts}, further_lines AS (
            INSERT INTO order_lines (order_id, line, product_id, quantity, unit_price_minor)
            SELECT placed.id, further_line.line, further_line.product_id, further_line.quantity,
                further_line.unit_price
            FROM {line}
            JOIN placed USING (place)
        ), used AS (
            UPDATE holds SET status = 'used', ended_at = now(), order_id = placed.id
            FROM {used_hold}
            JOIN placed USING (place)
            WHERE holds.id = used_hold.id
        ), ended AS (
            UPDATE holds SET status = ended_hold.status, ended_at = now()
            FROM {ended_hold}
            WHERE holds.id = ended_hold.id
        ), cancelled AS (
            UPDATE orders SET
                status = 'cancelled',
                finished_at = now(),
                next_attempt_at = NULL,
                earlier = CASE WHEN status = 'failed' OR cancelled_order.by IS NOT NULL THEN
                    coalesce(earlier, '[]')
                    || CASE WHEN status = 'failed' THEN jsonb_strip_nulls(jsonb_build_array(
                        jsonb_build_object('status', 'failed', 'at', finished_at,
                            'detail', failure))) ELSE '[]' END
                    || CASE WHEN cancelled_order.by IS NOT NULL
                        THEN jsonb_strip_nulls(jsonb_build_array(
                            jsonb_build_object('status', 'cancelled', 'at', now(),
                                'by', cancelled_order.by, 'detail', cancelled_order.note)))
                        ELSE '[]' END
                    ELSE earlier END
            FROM {cancelled_order}
            WHERE orders.id = cancelled_order.id
        ), held AS MATERIALIZED (
            SELECT nextval('holds_id_seq') AS id, new_hold.* FROM {hold}
        ), holding AS (
            INSERT INTO holds (id, product_id, quantity, unit_price_minor, customer_ref, expires_at)
            OVERRIDING SYSTEM VALUE
            SELECT id, product_id, quantity, unit_price, customer_ref, now() + lasts
            FROM held
        ), keyed AS (
            INSERT INTO idempotency_keys (key, fingerprint, kind, result_id)
            SELECT key, fingerprint, kind, id
            FROM (
                SELECT key, fingerprint, 'order' AS kind, id FROM placed
                UNION ALL
                SELECT key, fingerprint, 'hold', id FROM held
            ) AS result
            WHERE key IS NOT NULL
            ORDER BY key
            ON CONFLICT DO NOTHING
            RETURNING 1
        )
        SELECT
            (SELECT array_agg(id ORDER BY place) FROM placed) AS orders,
            (SELECT array_agg(id ORDER BY place) FROM held) AS holds,
            (SELECT array_agg(id) FROM changed) AS changed,
            (SELECT array_agg(tuple_id) FROM changed) AS tuple_ids,
            now() AS created_at,
            (SELECT count(*) FROM keyed) AS keyed",
        common_parts = common_parts(common)
    )
}

/// The ids of new records.
fn ids(ids: Option<Vec<i64>>, what: &str, records: usize) -> Result<Vec<i64>, StoreError> {
    let ids = ids.unwrap_or_default();
    if ids.len() == records {
        return Ok(ids);
    }
    let reason = format!("{} ids for {records} {what}", ids.len());
    Err(StoreError::Corrupt { what: "batch", reason })
}

/// Where the new versions of the products' rows are.
fn new_tuple_ids(
    changed: Option<Vec<i64>>,
    tuple_ids: Option<Vec<String>>,
) -> Result<Vec<(ProductId, TupleId)>, StoreError> {
    changed
        .unwrap_or_default()
        .into_iter()
        .zip(tuple_ids.unwrap_or_default())
        .map(|(id, tuple_id)| Ok((ProductId(id), TupleId::parse(&tuple_id)?)))
        .collect()
}
