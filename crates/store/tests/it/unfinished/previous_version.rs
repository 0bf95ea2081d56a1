//! The statements of the previous version.

use holdfast_domain::OrderId;
use holdfast_store::Store;

/// The statement with which the previous version accepts an order.
const OLD_INSERT: &str = "INSERT INTO orders (product_id, quantity, unit_price_minor, batch_nonce) \
    SELECT 1, 1, 1250, 41 FROM generate_series(1, $1) RETURNING id";

/// The statement with which the previous version claims orders.
const OLD_CLAIM: &str = "
    WITH mine AS MATERIALIZED (
        SELECT free.id, free.status
        FROM unnest((SELECT $1::bigint[])) AS asked (id)
        CROSS JOIN LATERAL (
            SELECT id, status
            FROM orders
            WHERE id = asked.id AND CASE status
                WHEN 'pending' THEN true
                WHEN 'processing' THEN lease_until < now()
                ELSE false
            END
            FOR UPDATE SKIP LOCKED
        ) AS free
    )
    UPDATE orders SET
        status = 'processing',
        attempt = attempt + 1,
        lease_until = now() + interval '1 minute',
        next_attempt_at = NULL,
        processing_at = now()
    FROM mine
    WHERE orders.id = mine.id
    RETURNING orders.id, attempt";

/// The statement with which the previous version records that claims have ended in this status.
const OLD_FINISH: &str = "
    WITH mine AS MATERIALIZED (
        SELECT held.id, asked.attempt
        FROM unnest((SELECT $1::bigint[]), (SELECT $2::int[])) AS asked (id, attempt)
        CROSS JOIN LATERAL (
            SELECT id
            FROM orders
            WHERE id = asked.id AND attempt = asked.attempt
                AND CASE status WHEN 'processing' THEN true ELSE false END
            FOR UPDATE SKIP LOCKED
        ) AS held
    ), written AS (
        UPDATE orders SET
            status = $3,
            lease_until = NULL,
            failure = CASE $3 WHEN 'failed' THEN 'no such street' END,
            next_attempt_at = CASE $3 WHEN 'pending' THEN now() END,
            finished_at = CASE WHEN $3 <> 'pending' THEN now() END
        FROM mine
        WHERE orders.id = mine.id
        RETURNING orders.id
    ), missed AS MATERIALIZED (
        SELECT asked.id, asked.attempt
        FROM unnest((SELECT $1::bigint[]), (SELECT $2::int[])) AS asked (id, attempt)
        EXCEPT
        SELECT mine.id, mine.attempt FROM mine
    )
    SELECT written.id, false AS locked
    FROM written
    UNION ALL
    SELECT still.id, true
    FROM missed
    CROSS JOIN LATERAL (
        SELECT id
        FROM orders
        WHERE id = missed.id AND attempt = missed.attempt
            AND CASE status WHEN 'processing' THEN true ELSE false END
        OFFSET 0
    ) AS still";

pub async fn old_insert(store: &Store, count: i32) -> Vec<OrderId> {
    let ids: Vec<i64> =
        sqlx::query_scalar(OLD_INSERT).bind(count).fetch_all(store.pool()).await.unwrap();
    ids.into_iter().map(OrderId).collect()
}

fn numbers(ids: &[OrderId]) -> Vec<i64> {
    ids.iter().map(|id| id.0).collect()
}

pub async fn old_claim(store: &Store, ids: &[OrderId]) -> Vec<(OrderId, i32)> {
    let rows: Vec<(i64, i32)> =
        sqlx::query_as(OLD_CLAIM).bind(numbers(ids)).fetch_all(store.pool()).await.unwrap();
    let mut claims: Vec<_> = rows.into_iter().map(|(id, it)| (OrderId(id), it)).collect();
    claims.sort_unstable();
    claims
}

/// Returns the orders that were updated, and those that are locked.
pub async fn old_finish(
    store: &Store,
    claims: &[(OrderId, i32)],
    status: &str,
) -> (Vec<OrderId>, Vec<OrderId>) {
    let (ids, attempts): (Vec<_>, Vec<_>) = claims.iter().map(|(id, it)| (id.0, *it)).unzip();
    let rows: Vec<(i64, bool)> = sqlx::query_as(OLD_FINISH)
        .bind(ids)
        .bind(attempts)
        .bind(status)
        .fetch_all(store.pool())
        .await
        .unwrap();
    let (locked, mut written): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, locked)| *locked);
    written.sort_unstable();
    let ids = |rows: Vec<(i64, bool)>| rows.into_iter().map(|(id, _)| OrderId(id)).collect();
    (ids(written), ids(locked))
}
