//! The statements that each connection of admission prepares.
//!
//! They are sent as text, together with `BEGIN` in one message, so sqlx's macros cannot check them. The server checks
//! them when a connection is opened.

use crate::sql::sql;

/// The columns that a batch reads of a locked product. A batch that waited for the row may have begun before the batch
/// that wrote the last entry of the ledger, so `entered_at` may be later than its `now()`.
macro_rules! product_columns {
    ($($to:tt)+) => { $crate::sql::part!([r#"
        id, ctid::text AS place, stock, held, price_minor, version,
        retired_at IS NULL AS on_sale,
        pg_current_xact_id()::text AS xid,
        sales::text AS sales,
        CASE WHEN sales IS NOT NULL THEN (extract(epoch FROM now()) * 1000000)::bigint END AS now_us,
        sold_since_entry,
        sales IS NULL AND coalesce(
            entered_at BETWEEN now() - interval '1 s' AND now() + interval '1 s', false
        ) AS has_fresh_entry
    "#] $($to)+) };
}

/// What a new connection of admission executes: it prepares the statements of a batch, so that `BEGIN` and the locks
/// need one round trip.
///
/// These sessions only read a few rows, by their keys or tuple ids. The planner cannot know that: after a flash sale,
/// its statistics include neither the new rows nor the dead versions that a scan of the table would read. So the
/// settings exclude other plans.
///
/// - `holdfast_lock_wait` waits for the rows with these ids.
/// - `holdfast_lock_near` searches for the row of a product on one page, from `$1` up to `$2`, and by its id only if it
///   is not there. It waits for the row. If two replicas sell a product, each batch of the other replica moves the row,
///   but the row stays on its page as long as there is room. `id + 0` prevents the planner from using the index, which
///   has an entry for each version that an old snapshot keeps.
/// - `holdfast_lock_skip` locks the rows at the tuple ids. For products that are not found there, it locks the rows by
///   their ids.
pub(crate) const PREPARE: &str = sql!(
    r"
    SET holdfast.writes_ledger = 'on';
    SET plan_cache_mode = 'force_generic_plan';
    SET enable_hashjoin = 'off';
    SET enable_mergejoin = 'off';

    PREPARE holdfast_lock_wait (bigint[]) AS
        SELECT" {product_columns} r"
        FROM products
        WHERE id = ANY ($1)
        ORDER BY id
        FOR UPDATE;

    PREPARE holdfast_lock_near (tid, tid, bigint) AS
        WITH near AS MATERIALIZED (
            SELECT" {product_columns} r"
            FROM products
            WHERE ctid >= $1 AND ctid < $2 AND id + 0 = $3
            FOR UPDATE
        )
        TABLE near
        UNION ALL
        SELECT * FROM (
            SELECT" {product_columns} r"
            FROM products
            WHERE id = $3 AND NOT EXISTS (SELECT FROM near)
            FOR UPDATE
        ) AS searched;

    PREPARE holdfast_lock_skip (tid[], bigint[]) AS
        WITH placed AS MATERIALIZED (
            SELECT" {product_columns} r"
            FROM products
            WHERE ctid = ANY ($1)
            FOR UPDATE SKIP LOCKED
        )
        TABLE placed
        UNION ALL
        SELECT * FROM (
            SELECT" {product_columns} r"
            FROM products
            WHERE id = ANY (ARRAY(SELECT unnest($2) EXCEPT SELECT id FROM placed))
            ORDER BY id
            FOR UPDATE SKIP LOCKED
        ) AS searched;

    PREPARE holdfast_keys (uuid[]) AS
        SELECT key::text, fingerprint, kind, result_id
        FROM idempotency_keys
        WHERE key = ANY ($1);

    PREPARE holdfast_lock_holds (bigint[]) AS
        SELECT id, product_id, quantity, unit_price_minor, customer_ref,
            CASE WHEN status = 'active' AND expires_at <= now() THEN 'expired' ELSE status END
                AS status,
            status = 'active' AS kept
        FROM holds
        WHERE id = ANY ($1)
        ORDER BY id
        FOR UPDATE SKIP LOCKED;

    PREPARE holdfast_lock_orders (bigint[]) AS
        SELECT id, status, attempt > coalesce(not_taken, 0) AS may_be_fulfilled
        FROM orders
        WHERE id = ANY ($1)
        ORDER BY id
        FOR UPDATE SKIP LOCKED"
);
