//! The one statement that writes a batch.
//!
//! Its parameters are arrays, a column of each kind of record, which the server unnests: one round trip, whatever the
//! size of the batch. Most batches have only plain orders (of one line, from stock). They have a shorter statement,
//! without the parts that they do not need.

use std::collections::BTreeMap;

use holdfast_domain::{HoldId, OrderId, ProductChange, ProductId};
use sqlx::{
    Postgres, Row as _,
    postgres::{PgArguments, PgExecutor, PgRow},
    query::Query,
};
use uuid::Uuid;

use super::{
    records::{NewOrder, Records, Stored},
    tuple_ids::TupleId,
};
use crate::{error::StoreError, rows::timestamp, time::millis};

/// The stock and its ledger: $1 to $10. The rows are locked, so they are where they were found.
macro_rules! stock {
    () => {
        "WITH change AS MATERIALIZED ( \
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], \
                     $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::text[]::tid[]) \
                 AS change (product_id, version, delta, stock_after, held_after, sold, returned, \
                     held, place)), \
         taken AS ( \
             UPDATE products SET stock = products.stock + change.delta, \
                 held = products.held + change.held, version = products.version + 1, \
                 updated_at = now() \
             FROM change WHERE products.ctid = change.place AND id = change.product_id \
             RETURNING id, products.ctid::text AS place), \
         entered AS ( \
             INSERT INTO stock_ledger (product_id, version, reason, delta, stock_after, \
                 held_after, sold, returned, held, nonce) \
             SELECT product_id, version, 'admission', delta, stock_after, held_after, sold, \
                 returned, held, $10 FROM change), "
    };
}

/// The orders and their first lines: $11 to $19. They are numbered here, so that their ids can be given
/// back in the order of the array; `RETURNING` promises no order.
macro_rules! orders {
    () => {
        "placed AS MATERIALIZED ( \
             SELECT nextval('orders_id_seq') AS id, asked.* \
             FROM unnest($11::bigint[], $12::int[], $13::bigint[], $14::smallint[], $15::text[], \
                     $16::text[], $17::text[], $18::uuid[], $19::bigint[]) \
                 WITH ORDINALITY AS asked (product_id, quantity, price, line_count, \
                     trace_context, customer_ref, metadata, key, fingerprint, place)), \
         written AS ( \
             INSERT INTO orders (id, product_id, quantity, unit_price_minor, line_count, \
                 trace_context, customer_ref, metadata, metadata_text, batch_nonce) \
             OVERRIDING SYSTEM VALUE \
             SELECT id, product_id, quantity, price, coalesce(line_count, 1), trace_context, \
                 customer_ref, metadata::jsonb, metadata, $10 FROM placed), "
    };
}

const PLAIN: &str = concat!(
    stock!(),
    orders!(),
    // In the order of the keys, so that two replicas that are given the same ones wait for each other in
    // one direction only.
    "keyed AS ( \
         INSERT INTO idempotency_keys (key, fingerprint, kind, result_id) \
         SELECT key, fingerprint, 'order', id FROM placed WHERE key IS NOT NULL ORDER BY key \
         ON CONFLICT DO NOTHING RETURNING 1) \
     SELECT array_agg(id ORDER BY place) AS orders, NULL::bigint[] AS holds, \
         (SELECT array_agg(id) FROM taken) AS changed, \
         (SELECT array_agg(place) FROM taken) AS places, \
         (extract(epoch FROM now()) * 1000000)::bigint AS created_us, \
         (SELECT count(*) FROM keyed) AS keyed FROM placed"
);

const WHOLE: &str = concat!(
    stock!(),
    orders!(),
    "more_lines AS ( \
         INSERT INTO order_lines (order_id, line, product_id, quantity, unit_price_minor) \
         SELECT placed.id, more.line, more.product_id, more.quantity, more.price \
         FROM unnest($20::bigint[], $21::smallint[], $22::bigint[], $23::int[], $24::bigint[]) \
             AS more (place, line, product_id, quantity, price) JOIN placed USING (place)), \
     used AS ( \
         UPDATE holds SET status = 'used', ended_at = now(), order_id = placed.id \
         FROM unnest($25::bigint[], $26::bigint[]) AS using_hold (hold_id, place) \
             JOIN placed USING (place) \
         WHERE holds.id = using_hold.hold_id), \
     ended AS ( \
         UPDATE holds SET status = over.status, ended_at = now() \
         FROM unnest($27::bigint[], $28::text[]) AS over (hold_id, status) \
         WHERE holds.id = over.hold_id), \
     cancelled AS ( \
         UPDATE orders SET status = 'cancelled', finished_at = now(), next_attempt_at = NULL, \
             earlier = CASE WHEN status = 'failed' OR over_order.by IS NOT NULL THEN \
                 coalesce(earlier, '[]') \
                 || CASE WHEN status = 'failed' THEN jsonb_strip_nulls(jsonb_build_array( \
                     jsonb_build_object('status', 'failed', 'at', finished_at, \
                         'detail', failure))) ELSE '[]' END \
                 || CASE WHEN over_order.by IS NOT NULL THEN jsonb_strip_nulls(jsonb_build_array( \
                     jsonb_build_object('status', 'cancelled', 'at', now(), \
                         'by', over_order.by, 'detail', over_order.note))) ELSE '[]' END \
                 ELSE earlier END \
         FROM unnest($29::bigint[], $37::text[], $38::text[]) AS over_order (order_id, by, note) \
         WHERE orders.id = over_order.order_id), \
     kept AS MATERIALIZED ( \
         SELECT nextval('holds_id_seq') AS id, asked.* \
         FROM unnest($30::bigint[], $31::int[], $32::bigint[], $33::bigint[], $34::text[], \
                 $35::uuid[], $36::bigint[]) \
             WITH ORDINALITY AS asked (product_id, quantity, price, lasts_ms, customer_ref, key, \
                 fingerprint, place)), \
     holding AS ( \
         INSERT INTO holds (id, product_id, quantity, unit_price_minor, customer_ref, expires_at) \
         OVERRIDING SYSTEM VALUE \
         SELECT id, product_id, quantity, price, customer_ref, \
             now() + lasts_ms * interval '1 ms' FROM kept), \
     keyed AS ( \
         INSERT INTO idempotency_keys (key, fingerprint, kind, result_id) \
         SELECT key, fingerprint, kind, id FROM ( \
             SELECT key, fingerprint, 'order' AS kind, id FROM placed \
             UNION ALL SELECT key, fingerprint, 'hold', id FROM kept) AS result \
         WHERE key IS NOT NULL ORDER BY key \
         ON CONFLICT DO NOTHING RETURNING 1) \
     SELECT (SELECT array_agg(id ORDER BY place) FROM placed) AS orders, \
         (SELECT array_agg(id ORDER BY place) FROM kept) AS holds, \
         (SELECT array_agg(id) FROM taken) AS changed, \
         (SELECT array_agg(place) FROM taken) AS places, \
         (extract(epoch FROM now()) * 1000000)::bigint AS created_us, \
         (SELECT count(*) FROM keyed) AS keyed"
);

type Statement = Query<'static, Postgres, PgArguments>;

impl Records<'_> {
    /// Runs the statement, and says in the records what is stored of new orders and holds. Gives the tuple ids of the
    /// products' new versions. The caller's transaction is rolled back if this fails.
    pub(super) async fn write(
        &mut self,
        changes: &[ProductChange],
        rows: &BTreeMap<ProductId, TupleId>,
        nonce: i64,
        connection: impl PgExecutor<'_>,
    ) -> Result<Vec<(ProductId, TupleId)>, StoreError> {
        let plain = self.is_plain();
        let statement = sqlx::query(if plain { PLAIN } else { WHOLE });
        let mut statement = self.bind_orders(bind_stock(statement, changes, rows, nonce));
        if !plain {
            statement = self.bind_ordered(self.bind_holds(self.bind_rest(statement)));
        }
        let row = statement.fetch_one(connection).await?;
        let keys = self.orders.iter().map(|order| order.key);
        let keys = keys.chain(self.holds.iter().map(|hold| hold.key)).flatten().count();
        if usize::try_from(row.try_get::<i64, _>("keyed")?) != Ok(keys) {
            return Err(StoreError::KeyTaken);
        }
        let tuple_ids = new_tuple_ids(&row)?;
        if tuple_ids.len() != changes.len() {
            return Err(StoreError::Corrupt {
                what: "lock",
                reason: "a product's row does not have the tuple id that was locked".to_owned(),
            });
        }
        let created_at = timestamp(row.try_get("created_us")?)?;
        // The ids come in the order of the arrays, which is that of the records.
        let order_ids = ids(&row, "orders", self.orders.len())?;
        for (order, id) in self.orders.iter_mut().zip(order_ids) {
            *order.stored = Some(Stored { id: OrderId(id), created_at });
        }
        let hold_ids = ids(&row, "holds", self.holds.len())?;
        for (hold, id) in self.holds.iter_mut().zip(hold_ids) {
            *hold.stored = Some(Stored { id: HoldId(id), created_at });
        }
        Ok(tuple_ids)
    }

    fn is_plain(&self) -> bool {
        let plain = |order: &NewOrder<'_>| matches!(order.lines, [line] if line.hold.is_none());
        self.holds.is_empty()
            && self.ended.is_empty()
            && self.cancelled.is_empty()
            && self.orders.iter().all(plain)
    }

    fn bind_orders(&self, statement: Statement) -> Statement {
        let first = || self.orders.iter().filter_map(|order| order.lines.first());
        let line_counts = || {
            self.column(|order| {
                (order.lines.len() > 1)
                    .then(|| i16::try_from(order.lines.len()).unwrap_or(i16::MAX))
            })
        };
        statement
            .bind(first().map(|line| line.product_id.0).collect::<Vec<_>>())
            .bind(first().map(|line| line.quantity.units()).collect::<Vec<_>>())
            .bind(first().map(|line| line.unit_price.minor()).collect::<Vec<_>>())
            .bind(line_counts())
            .bind(self.column(|order| order.trace_context.map(ToOwned::to_owned)))
            .bind(self.column(|order| order.customer_ref.map(ToOwned::to_owned)))
            .bind(self.column(|order| order.metadata.map(ToOwned::to_owned)))
            .bind(self.column(|order| order.key.map(|key| key.key)))
            .bind(self.column(|order| order.key.map(|key| key.fingerprint)))
    }

    /// A column of the orders; none if no order has a value there, so that the server reads no array of NULLs.
    fn column<T>(&self, value: impl Fn(&NewOrder<'_>) -> Option<T>) -> Option<Vec<Option<T>>> {
        let mut column = None;
        for (at, order) in self.orders.iter().enumerate() {
            if let Some(value) = value(order) {
                let column = column.get_or_insert_with(|| {
                    let mut column = Vec::with_capacity(self.orders.len());
                    column.resize_with(at, || None);
                    column
                });
                column.push(Some(value));
            } else if let Some(column) = &mut column {
                column.push(None);
            }
        }
        column
    }

    /// Further lines, used and ended holds, cancelled orders.
    fn bind_rest(&self, statement: Statement) -> Statement {
        let (mut places, mut numbers) = (Vec::new(), Vec::new());
        let (mut products, mut quantities, mut prices) = (Vec::new(), Vec::new(), Vec::new());
        let (mut used, mut used_places) = (Vec::new(), Vec::new());
        for (place, order) in (1_i64..).zip(&self.orders) {
            for (number, line) in (1_i16..).zip(order.lines) {
                if let Some(hold_id) = line.hold {
                    used.push(hold_id.0);
                    used_places.push(place);
                }
                if number > 1 {
                    places.push(place);
                    numbers.push(number);
                    products.push(line.product_id.0);
                    quantities.push(line.quantity.units());
                    prices.push(line.unit_price.minor());
                }
            }
        }
        statement
            .bind(places)
            .bind(numbers)
            .bind(products)
            .bind(quantities)
            .bind(prices)
            .bind(used)
            .bind(used_places)
            .bind(self.ended.iter().map(|ended| ended.id.0).collect::<Vec<_>>())
            .bind(self.ended.iter().map(|ended| ended.status.as_str()).collect::<Vec<_>>())
            .bind(self.cancelled.iter().map(|cancelled| cancelled.id.0).collect::<Vec<_>>())
    }

    /// The operators of the cancellations.
    fn bind_ordered(&self, statement: Statement) -> Statement {
        let ordered = || self.cancelled.iter().map(|cancelled| cancelled.ordered);
        let by = ordered().map(|ordered| ordered.map(|ordered| ordered.by.to_owned()));
        let note = ordered().map(|ordered| ordered?.note.map(ToOwned::to_owned));
        statement
            .bind(by.collect::<Vec<Option<String>>>())
            .bind(note.collect::<Vec<Option<String>>>())
    }

    fn bind_holds(&self, statement: Statement) -> Statement {
        let holds = || self.holds.iter();
        statement
            .bind(holds().map(|hold| hold.product_id.0).collect::<Vec<_>>())
            .bind(holds().map(|hold| hold.quantity.units()).collect::<Vec<_>>())
            .bind(holds().map(|hold| hold.unit_price.minor()).collect::<Vec<_>>())
            .bind(holds().map(|hold| millis(hold.lasts)).collect::<Vec<_>>())
            .bind(
                holds()
                    .map(|hold| hold.customer_ref.map(ToOwned::to_owned))
                    .collect::<Vec<Option<String>>>(),
            )
            .bind(holds().map(|hold| hold.key.map(|key| key.key)).collect::<Vec<Option<Uuid>>>())
            .bind(
                holds()
                    .map(|hold| hold.key.map(|key| key.fingerprint))
                    .collect::<Vec<Option<i64>>>(),
            )
    }
}

/// The ids of new records.
fn ids(row: &PgRow, column: &str, records: usize) -> Result<Vec<i64>, StoreError> {
    let ids: Vec<i64> = row.try_get::<Option<_>, _>(column)?.unwrap_or_default();
    if ids.len() == records {
        return Ok(ids);
    }
    let reason = format!("{} ids for {records} {column}", ids.len());
    Err(StoreError::Corrupt { what: "batch", reason })
}

/// Where the new versions of the products' rows lie.
fn new_tuple_ids(row: &PgRow) -> Result<Vec<(ProductId, TupleId)>, StoreError> {
    let changed: Option<Vec<i64>> = row.try_get("changed")?;
    let places: Option<Vec<String>> = row.try_get("places")?;
    changed
        .unwrap_or_default()
        .into_iter()
        .zip(places.unwrap_or_default())
        .map(|(id, tuple_id)| Ok((ProductId(id), TupleId::parse(&tuple_id)?)))
        .collect()
}

fn bind_stock(
    statement: Statement,
    changes: &[ProductChange],
    rows: &BTreeMap<ProductId, TupleId>,
    nonce: i64,
) -> Statement {
    let column = |value: fn(&ProductChange) -> i64| changes.iter().map(value).collect::<Vec<_>>();
    let tuple_id = |change: &ProductChange| rows.get(&change.product_id).map(TupleId::to_string);
    statement
        .bind(column(|change| change.product_id.0))
        .bind(column(|change| change.version))
        .bind(column(|change| change.delta))
        .bind(column(|change| change.left.units()))
        .bind(column(|change| change.held_after))
        .bind(column(|change| change.sold))
        .bind(column(|change| change.returned))
        .bind(column(|change| change.held))
        .bind(changes.iter().map(tuple_id).collect::<Vec<_>>())
        .bind(nonce)
}
