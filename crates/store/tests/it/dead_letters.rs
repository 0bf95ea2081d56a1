use std::time::Duration;

use holdfast_domain::{OrderId, OrderStatus, ProductId, Quantity};
use holdfast_store::{
    Attribution, CancelledOrder, DeadLetterFilter, DeadLetterPage, HoldRecord, LockMode, Records,
    Replayed, Store, WantedRows,
    fulfilment::{AttemptResult, SweepRule},
};

use crate::{
    fixture::{product, store, wanted},
    fulfilment::{LEASE, orders, read_one},
};

const EVE: Attribution<'static> = Attribution { by: "eve", note: Some("the carrier is back") };

async fn fail(store: &Store, ids: &[OrderId]) {
    let claims = store.claim(ids, LEASE).await.unwrap();
    assert_eq!(claims.len(), ids.len());
    let failed: Vec<_> = claims
        .iter()
        .map(|claim| {
            (claim.order_id, claim.attempt, AttemptResult::Failed("no such street".to_owned()))
                .into()
        })
        .collect();
    store.finish(&failed).await.unwrap();
}

fn all() -> DeadLetterPage {
    DeadLetterPage { limit: 100, ..DeadLetterPage::default() }
}

async fn listed(store: &Store, page: &DeadLetterPage) -> Vec<OrderId> {
    let found = store.dead_letters(page).await.unwrap();
    found.items.into_iter().map(|order| order.id).collect()
}

async fn sql(store: &Store, text: &'static str) {
    sqlx::raw_sql(text).execute(store.pool()).await.unwrap();
}

#[tokio::test]
async fn a_replayed_order_has_all_attempts_again_and_records_the_operator() {
    let store = store().await;
    let ids = orders(&store, 3).await;
    fail(&store, &ids[..2]).await;
    let mut asked = ids.clone();
    asked.extend([ids[0], OrderId(9999)]);
    let mut replayed: Vec<_> = store
        .replay(&asked, EVE)
        .await
        .unwrap()
        .orders
        .into_iter()
        .map(|order| order.order_id)
        .collect();
    replayed.sort();
    assert_eq!(replayed, ids[..2], "the third has not failed, the last is none");
    assert_eq!(store.replay(&ids, EVE).await.unwrap(), Replayed::default(), "twice is once");

    let order = store.order(ids[0]).await.unwrap().unwrap();
    assert_eq!((order.status, order.finished_at), (OrderStatus::Pending, None));
    let told: Vec<_> = order
        .history()
        .into_iter()
        .map(|step| (step.status.as_str(), step.detail, step.by))
        .collect();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        told,
        [
            ("pending", None, None),
            ("processing", None, None),
            ("failed", text("no such street"), None),
            ("pending", text("the carrier is back"), text("eve")),
        ]
    );
    let claim = store.claim(&ids[..1], LEASE).await.unwrap().remove(0);
    let claimed = read_one(&store, ids[0]).await;
    assert_eq!((claim.attempt, claim.tries, claimed.returns), (2, 1, 0));
    assert_eq!(claimed.since, order.earlier.last().unwrap().at);
    assert!(claimed.since > claimed.created_at);
    // A worker of an earlier attempt cannot overwrite it.
    assert_eq!(
        store.finish(&[(ids[0], 1, AttemptResult::Completed).into()]).await.unwrap().done,
        []
    );
}

#[tokio::test]
async fn an_unpublished_replay_is_found_by_the_sweep() {
    let store = store().await;
    let ids = orders(&store, 1).await;
    fail(&store, &ids).await;
    store.replay(&ids, EVE).await.unwrap();
    let rule = SweepRule {
        waiting: Duration::ZERO,
        lost_after: Duration::ZERO,
        lost_before: None,
        horizon: Duration::from_hours(1),
        limit: 10,
    };
    let (swept, _) = store.sweep(rule, None).await.unwrap();
    assert_eq!(swept[0].order_id, ids[0]);
}

#[tokio::test]
async fn dead_letters_are_listed_newest_first_in_stable_pages() {
    let store = store().await;
    let ids = orders(&store, 7).await;
    fail(&store, &ids[..6]).await;
    sql(&store, "UPDATE orders SET created_at = created_at + (id / 3) * interval '1 s'").await;
    let mut page = DeadLetterPage { limit: 2, ..all() };
    let mut seen = Vec::new();
    loop {
        let found = store.dead_letters(&page).await.unwrap();
        seen.extend(found.items.iter().map(|order| order.id));
        if seen.len() == 2 {
            // One more order fails between two pages.
            fail(&store, &ids[6..]).await;
        }
        page.after = found.next;
        if page.after.is_none() {
            break;
        }
    }
    let expected: Vec<_> = ids[..6].iter().rev().copied().collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn filters_select_the_listed_and_replayed_orders() {
    let store = store().await;
    let ids = orders(&store, 4).await;
    fail(&store, &ids).await;
    sql(
        &store,
        "UPDATE orders SET finished_at = '2026-01-01T00:00Z'::timestamptz + id * interval '1 h'; \
         UPDATE orders SET line_count = 2 WHERE id = 3; \
         INSERT INTO order_lines VALUES (3, 2, 77, 1, 1)",
    )
    .await;
    let at = |hours: i64| {
        let start: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        Some(start + jiff::SignedDuration::from_hours(hours))
    };
    let none = DeadLetterFilter::default();
    for (filter, expected) in [
        (DeadLetterFilter { product: Some(ProductId(1)), ..none }, vec![4, 3, 2, 1]),
        (DeadLetterFilter { product: Some(ProductId(77)), ..none }, vec![3]),
        (DeadLetterFilter { product: Some(ProductId(78)), ..none }, vec![]),
        (DeadLetterFilter { failed_since: at(2), failed_before: at(4), ..none }, vec![3, 2]),
        (DeadLetterFilter { failed_since: at(5), ..none }, vec![]),
    ] {
        let found = listed(&store, &DeadLetterPage { filter, ..all() }).await;
        assert_eq!(found.iter().map(|id| id.0).collect::<Vec<_>>(), expected, "{filter:?}");
    }
    let early = DeadLetterFilter { failed_before: at(4), ..none };
    let page = DeadLetterPage { filter: early, limit: 2, ..all() };
    let (replayed, next) = store.replay_page(&page, EVE).await.unwrap();
    assert_eq!(replayed.orders.len(), 2);
    assert_eq!(listed(&store, &all()).await, [ids[3], ids[2]], "the oldest were replayed");
    let page = DeadLetterPage { after: next, ..page };
    let (replayed, next) = store.replay_page(&page, EVE).await.unwrap();
    assert_eq!((replayed.orders.len(), next), (1, None), "the last does not fit the filter");
    assert_eq!(replayed.orders[0].order_id, ids[2]);
    let mut statuses = store.statuses(&[ids[0], ids[3], OrderId(9999)]).await.unwrap();
    statuses.sort_by_key(|(id, _)| *id);
    assert_eq!(statuses, [(ids[0], OrderStatus::Pending), (ids[3], OrderStatus::Failed)]);
}

#[tokio::test]
async fn a_filter_with_few_matches_gives_short_pages_and_misses_none() {
    let store = store().await;
    sql(
        &store,
        "INSERT INTO orders (product_id, quantity, unit_price_minor, status, created_at, finished_at) \
         SELECT CASE i WHEN 1 THEN 7 WHEN 6000 THEN 7 ELSE 1 END, 1, 1, 'failed', \
             now() + i * interval '1 s', now() FROM generate_series(1, 6000) AS i",
    )
    .await;
    let filter = DeadLetterFilter { product: Some(ProductId(7)), ..DeadLetterFilter::default() };
    let page = DeadLetterPage { filter, ..all() };
    let first = store.dead_letters(&page).await.unwrap();
    assert_eq!((first.items.len(), first.next.is_some()), (1, true));
    let second = store.dead_letters(&DeadLetterPage { after: first.next, ..page }).await.unwrap();
    assert_eq!((second.items.len(), second.next), (1, None));

    let (replayed, next) = store.replay_page(&page, EVE).await.unwrap();
    assert_eq!((replayed.orders.len(), next.is_some()), (1, true));
    let page = DeadLetterPage { after: next, ..page };
    let (replayed, next) = store.replay_page(&page, EVE).await.unwrap();
    assert_eq!((replayed.orders.len(), next), (1, None));
}

#[tokio::test]
async fn the_list_is_read_from_the_index_by_status() {
    let store = store().await;
    sql(
        &store,
        "INSERT INTO orders (product_id, quantity, unit_price_minor, status, created_at) \
         SELECT 1, 1, 1, 'completed', now() - i * interval '1 s' FROM generate_series(1, 20000) AS i; \
         UPDATE orders SET status = 'failed', finished_at = now() WHERE id % 4 = 0; \
         ANALYZE orders",
    )
    .await;
    let plan: Vec<String> = sqlx::query_scalar(
        "EXPLAIN SELECT id FROM ONLY orders WHERE status = 'failed' \
         AND (created_at, id) < ('infinity', 9223372036854775807) \
         ORDER BY created_at DESC, id DESC LIMIT 100",
    )
    .fetch_all(store.pool())
    .await
    .unwrap();
    let plan = plan.join("\n");
    assert!(plan.contains("orders_by_status") && !plan.contains("Sort"), "{plan}");
    assert_eq!(store.dead_letters(&all()).await.unwrap().items.len(), 100);
}

/// A batch with a cancellation, a discard, an order and a hold: each record has its own parameters.
#[tokio::test]
async fn in_a_mixed_batch_each_cancellation_keeps_its_own_operator_and_reason() {
    let store = store().await;
    let lamp = product(&store, 10).await.id;
    let ids = orders(&store, 4).await;
    fail(&store, &ids[..3]).await;
    let wanted = WantedRows {
        products: [lamp].into(),
        orders: ids.iter().copied().collect(),
        ..wanted(&[])
    };
    let batch = store.lock_batch(&wanted, LockMode::Wait).await.unwrap();
    let mut allocator = batch.allocator().clone();
    let unit_price = allocator.hold(lamp, Quantity::ONE, None, None).unwrap();
    let noteless = Attribution { by: "ada", note: None };
    let cancelled = [(2, None), (0, Some(EVE)), (3, None), (1, Some(noteless))]
        .map(|(at, ordered)| CancelledOrder { id: ids[at], ordered });
    let mut hold = None;
    let mut records = Records {
        holds: vec![HoldRecord {
            stored: &mut hold,
            product_id: lamp,
            quantity: Quantity::ONE,
            unit_price,
            lasts: Duration::from_mins(1),
            customer_ref: Some("bob"),
            key: None,
        }],
        cancelled: cancelled.to_vec(),
        ..Records::default()
    };
    let writing = batch.write(&allocator.changes(), &mut records, 42).await.unwrap();
    writing.commit().await.unwrap();
    assert!(hold.is_some());

    let mut told = Vec::new();
    for id in &ids {
        let order = store.order(*id).await.unwrap().unwrap();
        assert_eq!(order.status, OrderStatus::Cancelled);
        let last = order.history().pop().unwrap();
        assert_eq!((last.status, Some(last.at)), (OrderStatus::Cancelled, order.finished_at));
        told.push((order.history().len(), last.by, last.detail));
    }
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        told,
        [
            (4, text("eve"), text("the carrier is back")),
            (4, text("ada"), None),
            (4, None, None),
            (2, None, None),
        ]
    );
}
