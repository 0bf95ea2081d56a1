use std::time::{Duration, Instant};

use holdfast_domain::{OrderId, OrderStatus};
use holdfast_sandbox::{Postgres, PostgresOptions};
use holdfast_store::{
    LockMode, Store, StoreError, StoreSettings,
    fulfilment::{AttemptResult, Claim, ClaimedOrder, EndedClaim, WrittenClaims},
};

use crate::fixture::{database_url, lock, product, settings, store, until_true, write_one_each};
use crate::sweep::found;

pub const LEASE: Duration = Duration::from_mins(1);
/// A lease that has expired by the time of the next statement.
pub const OVER: Duration = Duration::ZERO;

pub async fn orders(store: &Store, count: usize) -> Vec<OrderId> {
    let lamp = product(store, 1_000).await;
    let batch = lock(store, &[lamp.id], LockMode::Wait).await;
    write_one_each(batch, &vec![lamp.id; count]).await.commit().await.unwrap()
}

pub async fn claim_one(store: &Store, id: OrderId, lease: Duration) -> Claim {
    store.claim(&[id], lease).await.unwrap().remove(0)
}

pub async fn read_one(store: &Store, id: OrderId) -> ClaimedOrder {
    store.claimed(&[id], 0).await.unwrap().remove(0).order.unwrap()
}

pub async fn status(store: &Store, id: OrderId) -> OrderStatus {
    store.order(id).await.unwrap().unwrap().status
}

#[tokio::test]
async fn an_order_is_claimed_once_and_completed() {
    let store = store().await;
    let ids = orders(&store, 3).await;
    let claims = store.claim(&ids[..2], LEASE).await.unwrap();
    assert_eq!(claims.len(), 2);
    let rest = store.claim(&ids, LEASE).await.unwrap();
    assert_eq!(rest.iter().map(|claim| claim.order_id).collect::<Vec<_>>(), ids[2..]);
    assert_eq!(status(&store, ids[0]).await, OrderStatus::Processing);

    let done = [(ids[0], 1, AttemptResult::Completed).into()];
    assert_eq!(store.finish(&done).await.unwrap().done, ids[..1]);
    let order = store.order(ids[0]).await.unwrap().unwrap();
    assert_eq!(order.status, OrderStatus::Completed);
    assert!(order.finished_at >= order.processing_at && order.processing_at.is_some());
    assert_eq!(store.claim(&ids[..1], LEASE).await.unwrap(), [], "completed is final");
}

#[tokio::test]
async fn a_worker_with_an_expired_lease_cannot_overwrite_its_successor() {
    let store = store().await;
    let id = orders(&store, 1).await[0];
    let late = claim_one(&store, id, OVER).await;
    let heir = claim_one(&store, id, LEASE).await;
    assert_eq!((late.attempt, heir.attempt, heir.tries), (1, 2, 2));
    assert_eq!(store.extend(&[(id, late.attempt)], LEASE).await.unwrap().done, []);
    let failed = AttemptResult::Failed("too late".to_owned());
    assert_eq!(
        store.finish(&[(id, late.attempt, failed).into()]).await.unwrap(),
        WrittenClaims::default()
    );
    assert_eq!(status(&store, id).await, OrderStatus::Processing);
    assert_eq!(store.extend(&[(id, heir.attempt)], LEASE).await.unwrap().done, [id]);
    store.finish(&[(id, heir.attempt, AttemptResult::Completed).into()]).await.unwrap();
    assert_eq!(status(&store, id).await, OrderStatus::Completed);
}

#[tokio::test]
async fn outcomes_of_all_kinds_are_written_together() {
    let store = store().await;
    let ids = orders(&store, 4).await;
    store.claim(&ids, LEASE).await.unwrap();
    let retry = AttemptResult::Retry(Duration::from_secs(1), "busy".to_owned());
    let written = store
        .finish(&[
            (ids[0], 1, AttemptResult::Completed).into(),
            (ids[1], 1, AttemptResult::Failed("no such street".to_owned())).into(),
            (ids[2], 1, retry).into(),
            (ids[3], 1, AttemptResult::HandedBack).into(),
        ])
        .await
        .unwrap();
    assert_eq!(written.done.len(), 4);
    let mut found = Vec::new();
    for id in &ids {
        let order = store.order(*id).await.unwrap().unwrap();
        found.push((order.status.as_str(), order.failure, order.finished_at.is_some()));
    }
    let reason = |text: &str| Some(text.to_owned());
    assert_eq!(
        found,
        [
            ("completed", None, true),
            ("failed", reason("no such street"), true),
            ("pending", reason("busy"), false),
            ("pending", None, false),
        ]
    );
    let again = store.claim(&ids[2..], LEASE).await.unwrap();
    let tries: Vec<_> = again.iter().map(|claim| (claim.attempt, claim.tries)).collect();
    assert_eq!(tries, [(2, 2), (2, 1)], "what was handed back does not count");
}

#[tokio::test]
async fn a_claim_carries_the_whole_order() {
    let store = store().await;
    let ids = orders(&store, 2).await;
    sqlx::raw_sql(
        "UPDATE orders SET line_count = 3, customer_ref = 'Jürgen', metadata = '{\"a\": 1}' \
             WHERE id = 1; \
         INSERT INTO order_lines VALUES (1, 3, 9, 4, 5), (1, 2, 8, 2, 1999), (2, 2, 7, 7, 7)",
    )
    .execute(store.pool())
    .await
    .unwrap();
    let mut claims = store.claim(&ids, LEASE).await.unwrap();
    claims.sort_by_key(|claim| claim.order_id);
    let read: Vec<_> = claims.iter().map(|claim| claim.order.is_some()).collect();
    assert_eq!(read, [false, true], "what may be large is not read with the claim");
    for (claim, id) in claims.iter().zip(&ids) {
        let order = store.order(*id).await.unwrap().unwrap();
        let claimed = read_one(&store, claim.order_id).await;
        assert_eq!(claimed.lines, order.lines);
        assert_eq!(claimed.customer_ref, order.customer_ref);
        assert_eq!(claimed.metadata, order.metadata);
        assert_eq!((claimed.created_at, claimed.since), (order.created_at, order.created_at));
        assert_eq!(claimed.returns, 0);
        assert_eq!(claimed.lines.len(), if *id == ids[0] { 3 } else { 1 });
        if let Some(along) = &claim.order {
            assert_eq!(*along, claimed);
        }
    }
}

#[tokio::test]
async fn the_reason_of_a_cancellation_is_only_in_the_history() {
    let store = store().await;
    let ids = orders(&store, 2).await;
    // One order is completed directly.
    claim_one(&store, ids[1], LEASE).await;
    store.finish(&[(ids[1], 1, AttemptResult::Completed).into()]).await.unwrap();
    let earlier: Option<String> =
        sqlx::query_scalar("SELECT earlier::text FROM orders WHERE id = $1")
            .bind(ids[1].0)
            .fetch_one(store.pool())
            .await
            .unwrap();
    assert_eq!(earlier, None);

    let id = ids[0];
    let retry = AttemptResult::Retry(Duration::ZERO, "busy".to_owned());
    let postponed = AttemptResult::Postponed(Duration::ZERO, "asleep".to_owned());
    for (attempt, verdict) in (1..).zip([retry, postponed, AttemptResult::HandedBack]) {
        claim_one(&store, id, LEASE).await;
        store.finish(&[(id, attempt, verdict).into()]).await.unwrap();
    }
    claim_one(&store, id, OVER).await;
    assert_eq!(found(&store, 10, Duration::from_hours(1)).await, [id], "swept");
    claim_one(&store, id, OVER).await;
    let last = claim_one(&store, id, LEASE).await;
    assert_eq!((last.attempt, last.tries), (6, 4), "two tries do not count");
    assert!(last.taken_over);
    assert_eq!(read_one(&store, id).await.returns, 5);
    let order = store.order(id).await.unwrap().unwrap();
    let mut expected = vec![("pending", String::new())];
    for detail in [
        "busy",
        "asleep",
        "handed back, because its worker was shutting down",
        "the lease of its worker ran out",
        "the lease of its worker ran out",
    ] {
        expected.extend([("processing", String::new()), ("pending", detail.to_owned())]);
    }
    expected.push(("processing", String::new()));
    let told: Vec<_> = order
        .history()
        .into_iter()
        .map(|step| (step.status.as_str(), step.detail.unwrap_or_default()))
        .collect();
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_history_is_limited_and_keeps_the_operators() {
    let store = store().await;
    let id = orders(&store, 1).await[0];
    sqlx::query(
        "UPDATE orders SET earlier = '[{\"status\": \"failed\", \"at\": \"2026-01-01T00:00:00Z\"}, \
             {\"status\": \"pending\", \"at\": \"2026-01-01T00:00:01Z\", \"by\": \"eve\"}]' WHERE id = $1",
    )
    .bind(id.0)
    .execute(store.pool())
    .await
    .unwrap();
    for attempt in 1..=60 {
        claim_one(&store, id, LEASE).await;
        let retry = AttemptResult::Retry(Duration::ZERO, format!("try {attempt}"));
        store.finish(&[(id, attempt, retry).into()]).await.unwrap();
    }
    let earlier = store.order(id).await.unwrap().unwrap().earlier;
    assert_eq!(earlier.len(), 51);
    assert_eq!(earlier[0].by.as_deref(), Some("eve"));
    assert_eq!(earlier[50].detail.as_deref(), Some("try 60"));
    claim_one(&store, id, LEASE).await;
    let claimed = read_one(&store, id).await;
    assert_eq!((claimed.since, claimed.returns), (earlier[0].at, 25));
}

/// A later version may write such steps.
#[tokio::test]
async fn an_order_with_unknown_steps_in_its_history_is_read_without_them() {
    let store = store().await;
    let id = orders(&store, 1).await[0];
    sqlx::query(
        r#"UPDATE orders SET earlier = '[{"status": "returned", "at": "2026-01-01T00:00:00Z"}, {"new": 1},
            {"status": "failed", "at": "2026-01-02T00:00:00Z"}]'"#,
    )
    .execute(store.pool())
    .await
    .unwrap();
    let earlier = store.order(id).await.unwrap().unwrap().earlier;
    assert_eq!(earlier.len(), 1);
    assert_eq!(earlier[0].status, OrderStatus::Failed);
    // It is fulfilled like any other.
    claim_one(&store, id, LEASE).await;
    read_one(&store, id).await;
}

#[tokio::test]
async fn a_reason_with_any_characters_is_kept() {
    let store = store().await;
    let ids = orders(&store, 1).await;
    store.claim(&ids, LEASE).await.unwrap();
    let why = format!("a NUL \0 and an end {}", "é".repeat(5000));
    store.finish(&[(ids[0], 1, AttemptResult::Failed(why)).into()]).await.unwrap();
    let failure = store.order(ids[0]).await.unwrap().unwrap().failure.unwrap();
    assert!(failure.starts_with("a NUL  and an end é"), "{failure}");
    assert_eq!(failure.chars().count(), 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_renewed_while_outcomes_are_written() {
    let store = store().await;
    let ids = orders(&store, 500).await;
    for attempt in 1..=20 {
        assert_eq!(store.claim(&ids, LEASE).await.unwrap().len(), ids.len());
        // In another order than the outcomes.
        let claims: Vec<_> = ids.iter().rev().map(|id| (*id, attempt)).collect();
        let back: Vec<EndedClaim> =
            ids.iter().map(|id| (*id, attempt, AttemptResult::HandedBack).into()).collect();
        let (extended, finished) = tokio::join!(
            tokio::spawn({
                let store = store.clone();
                async move { store.extend(&claims, LEASE).await }
            }),
            tokio::spawn({
                let store = store.clone();
                let back = back.clone();
                async move { store.finish(&back).await }
            })
        );
        let WrittenClaims { done, locked } = finished.unwrap().expect("a deadlock, perhaps");
        extended.unwrap().expect("a deadlock, perhaps");
        assert_eq!(done.len() + locked.len(), ids.len(), "none is taken for lost");
        let mut again = back;
        again.retain(|ended| locked.contains(&ended.order_id));
        assert_eq!(store.finish(&again).await.unwrap().done.len(), locked.len());
    }
}

#[tokio::test]
async fn claims_read_no_more_than_their_own_orders() {
    let url = database_url(&store().await).await;
    let store = Store::connect(&StoreSettings { pool_size: 1, ..settings(&url) });
    let ids: Vec<OrderId> = (1..=1024).map(OrderId).collect();
    // As after a flash sale: the statistics show no unfinished orders.
    sqlx::raw_sql(
        "INSERT INTO orders (product_id, quantity, unit_price_minor, status) \
             SELECT 1, 1, 1, 'completed' FROM generate_series(1, 20000); \
         ANALYZE orders; \
         UPDATE orders SET status = 'pending' WHERE id <= 10000",
    )
    .execute(store.pool())
    .await
    .unwrap();
    let before = read_at_large(&store).await;
    // More often than PostgreSQL makes a new plan for the given values.
    for attempt in 1..=8 {
        assert_eq!(store.claim(&ids, LEASE).await.unwrap().len(), 1024);
        let claims: Vec<_> = ids.iter().map(|id| (*id, attempt)).collect();
        assert_eq!(store.extend(&claims, LEASE).await.unwrap().done.len(), 1024);
        let back: Vec<_> =
            ids.iter().map(|id| (*id, attempt, AttemptResult::HandedBack).into()).collect();
        assert_eq!(store.finish(&back).await.unwrap().done.len(), 1024);
    }
    // A session reports its counts at the latest when it ends.
    store.close().await;
    let store = Store::connect(&settings(&url));
    let alone = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid())";
    until_true(store.pool(), alone).await;
    assert_eq!(read_at_large(&store).await - before, 0);
}

/// The number of orders that were read otherwise than by id: by a scan of the table or of the index by status.
async fn read_at_large(store: &Store) -> i64 {
    sqlx::query("SELECT pg_stat_force_next_flush()").execute(store.pool()).await.unwrap();
    sqlx::query_scalar(
        "SELECT seq_tup_read + idx_tup_read FROM pg_stat_user_tables JOIN pg_stat_user_indexes \
         USING (relid) WHERE indexrelname = 'orders_by_status'",
    )
    .fetch_one(store.pool())
    .await
    .unwrap()
}

#[tokio::test]
async fn a_hung_server_costs_each_call_its_timeout_and_keeps_no_connection() {
    let server = Postgres::start(PostgresOptions::default()).await.unwrap();
    let settings = StoreSettings {
        pool_size: 1,
        // Enough for what works, on a busy machine.
        statement_timeout: Duration::from_secs(1),
        ..settings(&server.create_database().await.unwrap())
    };
    let store = Store::connect(&settings);
    store.migrate().await.unwrap();
    let ids = orders(&store, 1).await;
    server.pause().await.unwrap();
    let begun = Instant::now();
    let hung = store.claim(&ids, LEASE).await;
    let took = begun.elapsed();
    server.resume().await.unwrap();
    assert!(matches!(hung, Err(StoreError::Unavailable(_))), "{hung:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    // The statement may have reached the server; then its lease would have to expire first.
    store.claim(&ids, LEASE).await.unwrap();
}
