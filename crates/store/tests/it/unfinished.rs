//! The table of unfinished orders, and programs of the previous version that use it at the same time.

use std::time::Duration;

use holdfast_domain::{OrderId, OrderStatus, ProductId};
use holdfast_store::{
    DeadLetterPage, OrderPage, Store,
    fulfilment::{AttemptResult, EndedClaim},
};

use crate::fixture::{count_orders, store};
use crate::fulfilment::{LEASE, OVER, claim_one, orders, status};
use crate::sweep::found;

mod previous_version;

use previous_version::{old_claim, old_finish, old_insert};

pub async fn finish(
    store: &Store,
    claims: &[(OrderId, i32)],
    verdict: AttemptResult,
) -> Vec<OrderId> {
    let ended: Vec<EndedClaim> =
        claims.iter().map(|(id, attempt)| (*id, *attempt, verdict.clone()).into()).collect();
    let mut done = store.finish(&ended).await.unwrap().done;
    done.sort_unstable();
    done
}

async fn number(store: &Store, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(store.pool()).await.unwrap()
}

async fn unfinished(store: &Store) -> i64 {
    number(store, "SELECT count(*) FROM unfinished_orders").await
}

#[tokio::test]
async fn a_worker_of_the_previous_version_finishes_orders_of_both() {
    let store = store().await;
    let new = orders(&store, 3).await;
    let ids = [new.clone(), old_insert(&store, 3).await].concat();
    let claims = old_claim(&store, &ids).await;
    assert_eq!(claims, ids.iter().map(|id| (*id, 1)).collect::<Vec<_>>());
    assert_eq!(store.claim(&ids, LEASE).await.unwrap(), [], "they are claimed");
    assert_eq!(old_finish(&store, &claims, "completed").await, (ids.clone(), vec![]));
    for id in &ids {
        assert_eq!(status(&store, *id).await, OrderStatus::Completed);
    }
    assert_eq!(store.claim(&ids, LEASE).await.unwrap(), []);
    assert_eq!(old_claim(&store, &ids).await, []);
    assert_eq!((unfinished(&store).await, count_orders(&store).await), (0, 6), "each once");
}

#[tokio::test]
async fn a_worker_finishes_orders_of_the_previous_version() {
    let store = store().await;
    let ids = [old_insert(&store, 3).await, orders(&store, 3).await].concat();
    let claims = store.claim(&ids, LEASE).await.unwrap();
    assert_eq!(claims.len(), 6);
    let claims: Vec<_> = ids.iter().map(|id| (*id, 1)).collect();
    assert_eq!(old_claim(&store, &ids).await, [], "they are claimed");
    assert_eq!(store.extend(&claims, LEASE).await.unwrap().done.len(), 6);
    assert_eq!(finish(&store, &claims, AttemptResult::HandedBack).await, ids);
    assert_eq!(store.claim(&ids, LEASE).await.unwrap().len(), 6);
    let claims: Vec<_> = ids.iter().map(|id| (*id, 2)).collect();
    assert_eq!(finish(&store, &claims, AttemptResult::Completed).await, ids);
    assert_eq!(old_finish(&store, &claims, "completed").await, (vec![], vec![]));
    assert_eq!((unfinished(&store).await, count_orders(&store).await), (0, 6), "each once");
}

#[tokio::test]
async fn an_attempt_number_fences_workers_of_both_versions() {
    let store = store().await;
    for id in [orders(&store, 1).await[0], old_insert(&store, 1).await[0]] {
        claim_one(&store, id, OVER).await;
        assert_eq!(old_claim(&store, &[id]).await, [(id, 2)]);
        assert_eq!(finish(&store, &[(id, 1)], AttemptResult::Completed).await, []);
        assert_eq!(old_finish(&store, &[(id, 2)], "pending").await.0, [id]);
        assert_eq!(claim_one(&store, id, LEASE).await.attempt, 3);
        assert_eq!(old_finish(&store, &[(id, 2)], "failed").await, (vec![], vec![]));
        let failed = AttemptResult::Failed("no such street".to_owned());
        assert_eq!(finish(&store, &[(id, 3)], failed).await, [id]);
    }
    let page = DeadLetterPage { limit: 10, ..DeadLetterPage::default() };
    assert_eq!(store.dead_letters(&page).await.unwrap().items.len(), 2);
}

#[tokio::test]
async fn a_dead_letter_of_the_previous_version_is_listed_and_replayed() {
    let store = store().await;
    let id = orders(&store, 1).await[0];
    let claims = old_claim(&store, &[id]).await;
    assert_eq!(old_finish(&store, &claims, "failed").await.0, [id]);
    let page = DeadLetterPage { limit: 10, ..DeadLetterPage::default() };
    assert_eq!(store.dead_letters(&page).await.unwrap().items[0].id, id);
    let eve = holdfast_store::Attribution { by: "eve", note: None };
    assert_eq!(store.replay(&[id], eve).await.unwrap().orders.len(), 1);
    assert_eq!(old_claim(&store, &[id]).await, [(id, 2)]);
}

/// Claims and finishes these orders, a few at a time, until none is left.
async fn work(store: Store, ids: Vec<OrderId>, is_old: bool) {
    while unfinished(&store).await + number(&store, LEFT_IN_ORDERS).await > 0 {
        for some in ids.chunks(7) {
            let mut claims = if is_old {
                old_claim(&store, some).await
            } else {
                let claims = store.claim(some, LEASE).await.unwrap();
                claims.iter().map(|it| (it.order_id, it.attempt)).collect()
            };
            // Others may lock a row for a moment.
            while !claims.is_empty() {
                let locked = if is_old {
                    old_finish(&store, &claims, "completed").await.1
                } else {
                    let ended = claims
                        .iter()
                        .map(|(id, attempt)| (*id, *attempt, AttemptResult::Completed).into());
                    store.finish(&ended.collect::<Vec<_>>()).await.unwrap().locked
                };
                claims.retain(|(id, _)| locked.contains(id));
            }
        }
    }
}

const LEFT_IN_ORDERS: &str =
    "SELECT count(*) FROM ONLY orders WHERE status IN ('pending', 'processing')";

/// Records each completion of an order.
const NOTE_COMPLETIONS: &str = "
    CREATE TABLE completions (id bigint);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO completions VALUES (NEW.id);
        RETURN NULL;
    END $$;
    CREATE TRIGGER note AFTER INSERT ON completed_orders FOR EACH ROW EXECUTE FUNCTION note();
    CREATE TRIGGER note AFTER UPDATE ON orders FOR EACH ROW
        WHEN (NEW.status = 'completed') EXECUTE FUNCTION note()";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workers_of_both_versions_at_the_same_time_do_each_order_once() {
    let store = store().await;
    sqlx::raw_sql(NOTE_COMPLETIONS).execute(store.pool()).await.unwrap();
    let ids = [orders(&store, 200).await, old_insert(&store, 200).await].concat();
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..4_usize {
        let mut ids = ids.clone();
        ids.rotate_left(worker * 60);
        workers.spawn(work(store.clone(), ids, worker % 2 == 0));
    }
    workers.join_all().await;
    let completions: (i64, i64) =
        sqlx::query_as("SELECT count(*), count(DISTINCT id) FROM completions")
            .fetch_one(store.pool())
            .await
            .unwrap();
    assert_eq!(completions, (400, 400));
    let completed = "SELECT count(*) FROM orders WHERE status = 'completed'";
    assert_eq!((number(&store, completed).await, count_orders(&store).await), (400, 400));
}

#[tokio::test]
async fn a_sweep_finds_orders_of_both_versions() {
    let store = store().await;
    let ids = [old_insert(&store, 3).await, orders(&store, 3).await].concat();
    claim_one(&store, ids[1], OVER).await;
    claim_one(&store, ids[4], OVER).await;
    let both = found(&store, 10, Duration::from_hours(1)).await;
    assert_eq!(both, [ids[1], ids[4]], "their leases are over");
    sqlx::query("UPDATE orders SET created_at = now() - interval '2 hours'")
        .execute(store.pool())
        .await
        .unwrap();
    let lost = [ids[0], ids[2], ids[3], ids[5]];
    assert_eq!(found(&store, 3, Duration::from_hours(1)).await, lost[..3]);
    assert_eq!(found(&store, 3, Duration::from_hours(1)).await, lost[3..]);
    assert_eq!(store.count_unfinished(None).await.unwrap(), 6);
}

#[tokio::test]
async fn lists_have_the_orders_of_both_tables_in_their_order() {
    let store = store().await;
    let mut ids = old_insert(&store, 2).await;
    for _ in 0..3 {
        ids.extend(orders(&store, 2).await);
        ids.extend(old_insert(&store, 2).await);
    }
    store.claim(&[ids[0], ids[3], ids[5], ids[9]], LEASE).await.unwrap();
    finish(&store, &[(ids[3], 1), (ids[5], 1)], AttemptResult::Completed).await;
    let of = async |page: OrderPage| {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = OrderPage { after, limit: 3, ..page.clone() };
            let part = store.orders(&page).await.unwrap();
            found.extend(part.items.into_iter().map(|order| order.id));
            after = part.next;
            if after.is_none() {
                found.reverse();
                return found;
            }
        }
    };
    let status = |status| OrderPage { status: Some(status), ..OrderPage::default() };
    assert_eq!(of(OrderPage::default()).await, ids);
    assert_eq!(of(status(OrderStatus::Completed)).await, [ids[3], ids[5]]);
    assert_eq!(of(status(OrderStatus::Processing)).await, [ids[0], ids[9]]);
    let pending: Vec<_> = (0..ids.len()).filter(|at| ![0, 3, 5, 9].contains(at)).collect();
    let pending: Vec<_> = pending.into_iter().map(|at| ids[at]).collect();
    assert_eq!(of(status(OrderStatus::Pending)).await, pending);
    let product = |id| OrderPage { product: Some(ProductId(id)), ..OrderPage::default() };
    assert_eq!(
        of(product(1)).await.len() + of(product(2)).await.len() + of(product(3)).await.len(),
        ids.len()
    );
}

#[tokio::test]
async fn an_order_that_any_statement_ends_leaves_the_table_of_unfinished_ones() {
    let store = store().await;
    let ids = orders(&store, 4).await;
    for (id, status) in ids.iter().zip(["completed", "failed", "cancelled", "processing"]) {
        sqlx::query("UPDATE orders SET status = $1, customer_ref = 'Eve' WHERE id = $2")
            .bind(status)
            .bind(id.0)
            .execute(store.pool())
            .await
            .unwrap();
    }
    assert_eq!((unfinished(&store).await, count_orders(&store).await), (1, 4));
    let moved: Vec<(String, i64)> = sqlx::query_as(
        "SELECT tableoid::regclass::text || ' ' || status, id FROM orders \
         WHERE customer_ref = 'Eve' AND product_id = 1 ORDER BY id",
    )
    .fetch_all(store.pool())
    .await
    .unwrap();
    let moved: Vec<_> = moved.iter().map(|(place, _)| place.as_str()).collect();
    assert_eq!(
        moved,
        [
            "completed_orders completed",
            "orders failed",
            "orders cancelled",
            "unfinished_orders processing"
        ],
        "with all that they had"
    );
}

/// Only a user of psql does that.
#[tokio::test]
async fn a_completed_order_that_a_statement_puts_back_is_found_again() {
    let store = store().await;
    let ids = orders(&store, 3).await;
    store.claim(&ids, LEASE).await.unwrap();
    let claims: Vec<_> = ids.iter().map(|id| (*id, 1)).collect();
    finish(&store, &claims, AttemptResult::Completed).await;
    sqlx::raw_sql(
        "UPDATE orders SET status = 'failed' WHERE id = 1; \
         UPDATE orders SET status = 'pending', finished_at = NULL, created_at = now() - interval '2 hours' \
             WHERE id = 2",
    )
    .execute(store.pool())
    .await
    .unwrap();
    let page = DeadLetterPage { limit: 10, ..DeadLetterPage::default() };
    assert_eq!(store.dead_letters(&page).await.unwrap().items[0].id, ids[0]);
    let eve = holdfast_store::Attribution { by: "eve", note: None };
    assert_eq!(store.replay(&ids, eve).await.unwrap().orders.len(), 1);
    assert_eq!(found(&store, 10, Duration::from_hours(1)).await, [ids[1]]);
    let pending =
        OrderPage { status: Some(OrderStatus::Pending), limit: 10, ..OrderPage::default() };
    assert_eq!(store.orders(&pending).await.unwrap().items.len(), 2);
    assert_eq!(count_orders(&store).await, 3);
}

/// Both tables have the same columns in the same order, and the statement that moves orders names all of them except
/// those that are NULL then.
#[tokio::test]
async fn no_column_is_lost_when_an_order_moves() {
    let store = store().await;
    let id = orders(&store, 1).await[0];
    sqlx::raw_sql(
        "UPDATE orders SET line_count = 2, handed_back = 1, next_attempt_at = now(), failure = 'why', \
             trace_context = 'trace', customer_ref = 'Eve', metadata = '{\"a\": 1}', earlier = '[]', \
             metadata_text = '{\"a\":1}', not_taken = 1; \
         CREATE TABLE before AS SELECT * FROM orders",
    )
    .execute(store.pool())
    .await
    .unwrap();
    claim_one(&store, id, LEASE).await;
    finish(&store, &[(id, 1)], AttemptResult::Completed).await;
    let differences: Vec<String> = sqlx::query_scalar(
        "SELECT key FROM (SELECT to_jsonb(before) AS was FROM before) AS a, \
             (SELECT to_jsonb(orders) AS now FROM orders) AS b, jsonb_object_keys(was) AS key \
         WHERE was -> key <> now -> key OR now -> key IS NULL ORDER BY key",
    )
    .fetch_all(store.pool())
    .await
    .unwrap();
    assert_eq!(
        differences,
        ["attempt", "finished_at", "next_attempt_at", "processing_at", "status"]
    );
}
