//! Archiving: the orders that leave the tables, the steps, and the data that the database keeps about them.

use std::{collections::BTreeSet, time::Duration};

use holdfast_domain::{OrderId, OrderStatus, ProductId, Sale, SaleName};
use holdfast_sandbox::until;
use holdfast_store::{
    Archive, ArchivePlace, Cutoff, CutoffReason, OldOrder, PutSaleError, Store, StoreError,
};

use crate::fixture;

const DAY: Duration = Duration::from_hours(24);

/// Order n was accepted 40 days ago and has been final for n days; each status has a fifth of them. Every ninth order
/// has a second line, and every twelfth used a hold.
const ORDERS: &str = "\
    INSERT INTO products (name, price_minor, stock) VALUES ('One', 100, 9), ('Two', 100, 9); \
    INSERT INTO orders (product_id, quantity, unit_price_minor, status, line_count, created_at, \
            processing_at, finished_at) \
        SELECT 1, 2, 100, (ARRAY['pending', 'processing', 'completed', 'failed', 'cancelled'])[i % 5 + 1], \
            1 + (i % 9 = 0)::int, now() - interval '40 days' + i * interval '1 s', \
            CASE WHEN i % 5 > 0 THEN now() END, CASE WHEN i % 5 > 1 THEN now() - i * interval '1 day' END \
        FROM generate_series(1, 39) AS i ORDER BY i; \
    INSERT INTO order_lines (order_id, line, product_id, quantity, unit_price_minor) \
        SELECT id, 2, 2, 3, 250 FROM orders WHERE line_count = 2; \
    INSERT INTO holds (product_id, quantity, unit_price_minor, status, expires_at, ended_at, order_id) \
        SELECT 1, 2, 100, 'used', now(), now(), id FROM orders WHERE id % 12 = 0; \
    INSERT INTO holds (product_id, quantity, unit_price_minor, status, expires_at, ended_at) \
        VALUES (1, 2, 100, 'released', now(), now() - interval '50 days')";

async fn sql(store: &Store, statements: &'static str) {
    sqlx::raw_sql(statements).execute(store.pool()).await.unwrap();
}

async fn count(store: &Store, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(store.pool()).await.unwrap()
}

async fn shop() -> (Store, Archive) {
    let store = fixture::store().await;
    sql(&store, ORDERS).await;
    let archive = store.archive().await.unwrap().unwrap();
    (store, archive)
}

/// All orders that may be archived, found in steps of `limit`, and the number of steps.
async fn all(archive: &mut Archive, cutoff: Cutoff, limit: u32) -> (Vec<OldOrder>, usize) {
    let (mut all, mut steps, mut from) = (Vec::new(), 0, Some(ArchivePlace::default()));
    while let Some(place) = from {
        let (old, next) = archive.next(cutoff, place, limit).await.unwrap();
        assert!(old.len() <= limit as usize);
        all.extend(old);
        steps += 1;
        from = next;
    }
    (all, steps)
}

fn ids(old: &[OldOrder]) -> BTreeSet<i64> {
    old.iter().map(|old| old.order.id.0).collect()
}

#[tokio::test]
async fn only_orders_that_have_been_final_for_long_are_archived() {
    let (_store, mut archive) = shop().await;
    let cutoff = archive.cutoff(DAY * 20).await.unwrap();
    assert_eq!(cutoff.because, CutoffReason::Age);
    // Completed or cancelled more than 20 days ago; all were accepted long before that.
    let expected: BTreeSet<i64> = (21..=39).filter(|n| matches!(n % 5, 2 | 4)).collect();
    for limit in [1, 3, 1000] {
        let (old, steps) = all(&mut archive, cutoff, limit).await;
        assert_eq!(ids(&old), expected, "in steps of {limit}");
        assert_eq!(old.len(), expected.len(), "none comes twice");
        // Steps go through 16 completed and cancelled orders, and each status has an end.
        assert!(steps <= 16 / limit as usize + 2, "{steps} steps of {limit}");
        for OldOrder { order, holds } in &old {
            assert!(matches!(order.status, OrderStatus::Completed | OrderStatus::Cancelled));
            assert_eq!(order.lines.len(), 1 + usize::from(order.id.0 % 9 == 0));
            assert_eq!(holds.len(), usize::from(order.id.0 % 12 == 0));
        }
    }
    let (old, _) = all(&mut archive, Cutoff { at: cutoff.at - DAY * 30, ..cutoff }, 10).await;
    assert_eq!(ids(&old), BTreeSet::new(), "nothing is as old as that");
}

#[tokio::test]
async fn a_valid_key_keeps_all_orders_from_its_time() {
    let (store, mut archive) = shop().await;
    sql(
        &store,
        "INSERT INTO idempotency_keys (key, fingerprint, kind, result_id, created_at) \
         SELECT gen_random_uuid(), 1, 'order', 37, now() - interval '30 days'",
    )
    .await;
    let cutoff = archive.cutoff(DAY * 20).await.unwrap();
    assert_eq!(cutoff.because, CutoffReason::Key);
    let (old, _) = all(&mut archive, cutoff, 100).await;
    assert_eq!(ids(&old), [32, 34, 37, 39].into(), "final before the key was used");
    // A younger key does not matter.
    let cutoff = archive.cutoff(DAY * 33).await.unwrap();
    assert_eq!(cutoff.because, CutoffReason::Age);
}

#[tokio::test]
async fn orders_that_the_limit_of_a_running_sale_counts_stay() {
    let (store, mut archive) = shop().await;
    let sale = "INSERT INTO sales (name, starts_at, ends_at, after_order) \
        VALUES ('one', now() - interval '25 days', now() + interval '1 day', 0)";
    sql(&store, sale).await;
    let cutoff = archive.cutoff(DAY * 20).await.unwrap();
    assert_eq!(cutoff.because, CutoffReason::Sale);
    let (old, _) = all(&mut archive, cutoff, 100).await;
    assert!(ids(&old).first() > Some(&25), "{:?}", ids(&old));
    sql(&store, "UPDATE sales SET ends_at = now()").await;
    assert_eq!(archive.cutoff(DAY * 20).await.unwrap().because, CutoffReason::Age);
}

#[tokio::test]
async fn archived_orders_are_removed_completely_and_their_units_are_kept() {
    let (store, mut archive) = shop().await;
    let cutoff = archive.cutoff(DAY).await.unwrap();
    let (old, _) = all(&mut archive, cutoff, 100).await;
    let all: Vec<OrderId> = old.iter().map(|old| old.order.id).collect();
    assert!(!archive.knows("one").await.unwrap());
    let (first, second) = all.split_at(7);
    archive.remove("one", cutoff, first).await.unwrap();
    archive.remove("two", cutoff, second).await.unwrap();
    assert!(archive.knows("one").await.unwrap() && archive.knows("two").await.unwrap());

    assert_eq!(count(&store, "SELECT count(*) FROM orders").await, 39 - 16);
    let left = "SELECT count(*) FROM orders WHERE status IN ('completed', 'cancelled')";
    assert_eq!(count(&store, left).await, 0);
    let orphans = "SELECT count(*) FROM order_lines WHERE order_id NOT IN (SELECT id FROM orders)";
    assert_eq!(count(&store, orphans).await, 0);
    let orphans = "SELECT count(*) FROM holds WHERE order_id NOT IN (SELECT id FROM orders)";
    assert_eq!(count(&store, orphans).await, 0);
    assert_eq!(count(&store, "SELECT count(*) FROM holds WHERE order_id IS NULL").await, 1);
    // Eight completed orders with two units each, and order 27 with three more on its second line.
    let units = "SELECT units FROM archived_units WHERE product_id = 1";
    assert_eq!(count(&store, units).await, 8 * 2);
    let units = "SELECT units FROM archived_units WHERE product_id = 2";
    assert_eq!(count(&store, units).await, 3);
    let files = "SELECT sum(orders)::bigint * 100 + sum(completed)::bigint FROM archive_files";
    assert_eq!(count(&store, files).await, 1608);
}

#[tokio::test]
async fn a_batch_that_has_changed_is_not_archived() {
    let (store, mut archive) = shop().await;
    let cutoff = archive.cutoff(DAY * 20).await.unwrap();
    // Completed 22 days ago; completed 2 days ago; a dead letter; an order that does not exist.
    for wrong in [2, 23, 999] {
        let error =
            archive.remove("one", cutoff, &[OrderId(22), OrderId(wrong)]).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{wrong}: {error:?}");
        assert!(store.order(OrderId(22)).await.unwrap().is_some());
        assert!(!archive.knows("one").await.unwrap());
    }
    assert_eq!(count(&store, "SELECT count(*) FROM orders").await, 39);
    assert_eq!(count(&store, "SELECT count(*) FROM archived_units").await, 0);
    // The session continues.
    archive.remove("one", cutoff, &[OrderId(22)]).await.unwrap();
}

#[tokio::test]
async fn only_one_run_archives_at_a_time() {
    let (store, archive) = shop().await;
    assert!(store.archive().await.unwrap().is_none());
    archive.close().await.unwrap();
    // The server notices the end of a session only after a moment.
    until("the lock is free", async || store.archive().await.unwrap()).await;
}

/// They would be missing from its file.
#[tokio::test]
async fn an_order_with_unknown_steps_in_its_history_stays() {
    let (store, mut archive) = shop().await;
    let unknown = r#"UPDATE orders SET earlier = '[{"status": "returned"}]' WHERE id = 22"#;
    sql(&store, unknown).await;
    let cutoff = archive.cutoff(DAY * 20).await.unwrap();
    let (old, _) = all(&mut archive, cutoff, 3).await;
    assert!(!ids(&old).contains(&22) && ids(&old).contains(&24), "{:?}", ids(&old));
}

/// A sale of this product with a limit that began this many days ago.
async fn limited(store: &Store, product: i64, days: u32) -> Sale {
    let now = store.clock().await.unwrap();
    Sale {
        name: SaleName::new(format!("sale-{product}-{days}")).unwrap(),
        products: [ProductId(product)].into(),
        starts_at: now - DAY * days,
        ends_at: now + DAY,
        per_customer: Some(3),
        held_back: false,
    }
}

#[tokio::test]
async fn a_limit_is_refused_if_orders_of_its_time_are_archived() {
    let (store, mut archive) = shop().await;
    let cutoff = archive.cutoff(DAY * 20).await.unwrap();
    archive.remove("one", cutoff, &[OrderId(22)]).await.unwrap();
    let late = limited(&store, 1, 2).await;
    let error = store.put_sale(&late).await.unwrap_err();
    assert!(matches!(&error, PutSaleError::Archived(ids) if *ids == [ProductId(1)]), "{error:?}");
    assert_eq!(store.sale(&late.name).await.unwrap(), None);
    // Nothing is missing for a product without archived orders, or for a sale that begins now or has no limit.
    store.put_sale(&limited(&store, 2, 2).await).await.unwrap();
    store.put_sale(&limited(&store, 1, 0).await).await.unwrap();
    store.put_sale(&Sale { per_customer: None, ..late.clone() }).await.unwrap();
    // It cannot get one later.
    let error = store.put_sale(&late).await.unwrap_err();
    assert!(matches!(error, PutSaleError::Archived(_)), "{error:?}");
}

#[tokio::test]
async fn an_open_sale_can_get_a_limit_if_none_of_its_orders_were_archived() {
    let (store, mut archive) = shop().await;
    let sale = limited(&store, 1, 25).await;
    store.put_sale(&Sale { per_customer: None, ..sale.clone() }).await.unwrap();
    let cutoff = archive.cutoff(DAY * 20).await.unwrap();
    archive.remove("one", cutoff, &[OrderId(27)]).await.unwrap();
    store.put_sale(&sale).await.unwrap();
}

#[tokio::test]
async fn an_ended_sale_can_continue_only_if_none_of_its_orders_were_archived() {
    let (store, mut archive) = shop().await;
    let mut sale = limited(&store, 1, 25).await;
    let end = sale.ends_at;
    store.put_sale(&sale).await.unwrap();
    let cutoff = archive.cutoff(DAY * 20).await.unwrap();
    archive.remove("open", cutoff, &[OrderId(27)]).await.unwrap();
    for _ in 0..2 {
        sale.ends_at = store.clock().await.unwrap();
        store.put_sale(&sale).await.unwrap();
        sale.ends_at = end;
        store.put_sale(&sale).await.unwrap();
    }

    sale.ends_at = store.clock().await.unwrap();
    store.put_sale(&sale).await.unwrap();
    let cutoff = archive.cutoff(DAY * 20).await.unwrap();
    archive.remove("over", cutoff, &[OrderId(22)]).await.unwrap();
    sale.ends_at = end;
    let error = store.put_sale(&sale).await.unwrap_err();
    assert!(matches!(error, PutSaleError::Archived(_)), "{error:?}");
}

#[tokio::test]
async fn orders_that_a_sale_counts_stay_if_the_sale_is_recorded_during_a_run() {
    let (store, mut archive) = shop().await;
    let cutoff = archive.cutoff(DAY * 20).await.unwrap();
    store.put_sale(&limited(&store, 1, 25).await).await.unwrap();
    let error = archive.remove("one", cutoff, &[OrderId(22)]).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert!(store.order(OrderId(22)).await.unwrap().is_some());
}
