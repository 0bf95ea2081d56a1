//! The bytes that are written for an order from its acceptance to its end.

use std::ops::Range;

use holdfast_domain::{ProductId, Quantity, RequestedLine};
use holdfast_store::{
    IdempotencyKey, LockMode, OrderRecord, Records, Store, fulfilment::AttemptResult,
};

use crate::fixture::{database_url, lock, plain_order, product, settings, store, until_true};
use crate::fulfilment::LEASE;
use crate::unfinished::finish;

/// The number of orders in a batch.
const BATCH: usize = 100;

/// Accepts orders of one unit with key and customer, for all products, and completes them, in batches like the API and
/// the worker.
async fn whole_lives(store: &Store, products: &[ProductId], batches: Range<usize>) {
    for number in batches {
        let asked: Vec<_> =
            (0..BATCH).map(|at| products[(number * 37 + at * 11) % products.len()]).collect();
        let batch = lock(store, &asked, LockMode::Wait).await;
        let mut allocator = batch.allocator().clone();
        let line = |id| RequestedLine::from_stock(id, Quantity::ONE);
        let lines: Vec<_> =
            asked.iter().map(|id| allocator.order(&[line(*id)], None).unwrap().lines).collect();
        let customers: Vec<_> = (0..BATCH)
            .map(|at| format!("customer {}", (number * BATCH + at) * 7919 % 10_007))
            .collect();
        let keys: Vec<_> = (0..BATCH)
            .map(|at| IdempotencyKey::new("shop", &format!("{number}/{at}"), b"{}"))
            .collect();
        let mut stored = vec![None; BATCH];
        let records = stored.iter_mut().zip(&lines).zip(&customers).zip(keys);
        let records = records.map(|(((stored, lines), customer), key)| OrderRecord {
            customer_ref: Some(customer),
            key: Some(key),
            ..plain_order(lines, stored)
        });
        let mut records = Records { orders: records.collect(), ..Records::default() };
        let nonce = 1 + i64::try_from(number).unwrap();
        let writing = batch.write(&allocator.changes(), &mut records, nonce).await.unwrap();
        drop(records);
        writing.commit().await.unwrap();
        let ids: Vec<_> = stored.iter().map(|stored| stored.unwrap().id).collect();
        let claims = store.claim(&ids, LEASE).await.unwrap();
        let claims: Vec<_> = claims.iter().map(|it| (it.order_id, it.attempt)).collect();
        assert_eq!(finish(store, &claims, AttemptResult::Completed).await.len(), BATCH);
    }
}

async fn products(store: &Store, count: usize) -> Vec<ProductId> {
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        ids.push(product(store, 1_000_000).await.id);
    }
    ids
}

#[tokio::test]
async fn a_claim_touches_no_index_and_an_end_is_one_insertion() {
    let store = store().await;
    let url = database_url(&store).await;
    let products = products(&store, 20).await;
    whole_lives(&store, &products, 0..20).await;
    // A session reports its counts at the latest when it ends.
    store.close().await;
    let store = Store::connect(&settings(&url));
    until_true(
        store.pool(),
        "SELECT sum(n_tup_ins) = 2 * 2000 FROM pg_stat_user_tables \
         WHERE relname IN ('completed_orders', 'unfinished_orders')",
    )
    .await;
    let counts: Vec<(String, i64, i64, i64, i64)> = sqlx::query_as(
        "SELECT relname::text, n_tup_ins, n_tup_upd, n_tup_hot_upd, n_tup_del FROM pg_stat_user_tables \
         WHERE relname IN ('completed_orders', 'unfinished_orders') ORDER BY relname",
    )
    .fetch_all(store.pool())
    .await
    .unwrap();
    let (completed, unfinished) = ("completed_orders".to_owned(), "unfinished_orders".to_owned());
    assert_eq!(counts, [(completed, 2000, 0, 0, 0), (unfinished, 2000, 2000, 2000, 2000)]);
}

/// The bytes of each table to which orders are written, with its indexes.
async fn sizes(store: &Store) -> Vec<(String, i64)> {
    sqlx::query_as(
        "SELECT relname::text, pg_total_relation_size(oid) FROM pg_class WHERE relname IN \
         ('orders', 'unfinished_orders', 'completed_orders', 'idempotency_keys', 'stock_ledger')",
    )
    .fetch_all(store.pool())
    .await
    .unwrap()
}

/// The limit is for orders with key and customer, sold one by one for many products. The table of unfinished orders
/// grows up to the orders between two vacuums that are not held back by an older snapshot, such as that of autovacuum's
/// ANALYZE.
#[tokio::test]
async fn a_finished_order_takes_few_bytes() {
    const BYTES_MAX: i64 = 450;
    const UNFINISHED_MAX: i64 = 4 * 1024 * 1024;

    let store = store().await;
    let products = products(&store, 100).await;
    let (mut half, mut kept, mut tables) = (0, 0, Vec::new());
    for round in 0..20 {
        whole_lives(&store, &products, round * 10..(round + 1) * 10).await;
        // Like autovacuum.
        sqlx::query("VACUUM unfinished_orders").execute(store.pool()).await.unwrap();
        tables = sizes(&store).await;
        let of_finished = tables.iter().filter(|(table, _)| table != "unfinished_orders");
        kept = of_finished.map(|(_, bytes)| bytes).sum();
        if round == 9 {
            half = kept;
        }
    }
    let each = (kept - half) / 10_000;
    assert!(each <= BYTES_MAX, "{each} bytes: {tables:?}");
    let unfinished = tables.iter().find(|(table, _)| table == "unfinished_orders").unwrap();
    assert!(unfinished.1 <= UNFINISHED_MAX, "{tables:?}");
}
