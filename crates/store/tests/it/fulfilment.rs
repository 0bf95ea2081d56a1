use std::time::Duration;

use holdfast_domain::{OrderId, OrderStatus};
use holdfast_store::{
    LockMode, Store,
    fulfilment::{Claim, Verdict},
};

use crate::fixture::{lock, product, store, write_one_each};

const LEASE: Duration = Duration::from_mins(1);
/// A lease that has run out by the time of the next statement.
const OVER: Duration = Duration::ZERO;

async fn orders(store: &Store, count: usize) -> Vec<OrderId> {
    let lamp = product(store, 1_000).await;
    let batch = lock(store, &[lamp.id], LockMode::Wait).await;
    write_one_each(batch, &vec![lamp.id; count]).await.commit().await.unwrap().ids
}

async fn claim_one(store: &Store, id: OrderId, lease: Duration) -> Claim {
    store.claim(&[id], lease).await.unwrap().remove(0)
}

async fn status(store: &Store, id: OrderId) -> OrderStatus {
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

    let done = [(ids[0], 1, Verdict::Completed)];
    assert_eq!(store.finish(&done).await.unwrap(), ids[..1]);
    let order = store.order(ids[0]).await.unwrap().unwrap();
    assert_eq!(order.status, OrderStatus::Completed);
    assert!(order.finished_at >= order.processing_at && order.processing_at.is_some());
    assert_eq!(store.claim(&ids[..1], LEASE).await.unwrap(), [], "completed is final");
}

#[tokio::test]
async fn a_worker_whose_lease_ran_out_cannot_write_over_its_successor() {
    let store = store().await;
    let id = orders(&store, 1).await[0];
    let late = claim_one(&store, id, OVER).await;
    let heir = claim_one(&store, id, LEASE).await;
    assert_eq!((late.attempt, heir.attempt, heir.tries), (1, 2, 2));
    assert_eq!(store.extend(&[(id, late.attempt)], LEASE).await.unwrap(), []);
    let failed = Verdict::Failed("too late".to_owned());
    assert_eq!(store.finish(&[(id, late.attempt, failed)]).await.unwrap(), []);
    assert_eq!(status(&store, id).await, OrderStatus::Processing);
    assert_eq!(store.extend(&[(id, heir.attempt)], LEASE).await.unwrap(), [id]);
    store.finish(&[(id, heir.attempt, Verdict::Completed)]).await.unwrap();
    assert_eq!(status(&store, id).await, OrderStatus::Completed);
}

#[tokio::test]
async fn verdicts_of_all_kinds_are_written_together() {
    let store = store().await;
    let ids = orders(&store, 4).await;
    store.claim(&ids, LEASE).await.unwrap();
    let retry = Verdict::Retry(Duration::from_secs(1), "busy".to_owned());
    let written = store
        .finish(&[
            (ids[0], 1, Verdict::Completed),
            (ids[1], 1, Verdict::Failed("no such street".to_owned())),
            (ids[2], 1, retry),
            (ids[3], 1, Verdict::HandedBack),
        ])
        .await
        .unwrap();
    assert_eq!(written.len(), 4);
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
async fn a_sweep_finds_what_was_lost_once() {
    let store = store().await;
    let ids = orders(&store, 4).await;
    claim_one(&store, ids[1], LEASE).await;
    claim_one(&store, ids[2], OVER).await;
    let retry = Verdict::Retry(Duration::from_mins(1), "busy".to_owned());
    claim_one(&store, ids[3], LEASE).await;
    store.finish(&[(ids[3], 1, retry)]).await.unwrap();

    assert_eq!(store.sweep(10, Duration::from_mins(1)).await.unwrap(), [], "too young");
    let found = async |limit| {
        let swept = store.sweep(limit, Duration::from_millis(1)).await.unwrap();
        let mut ids: Vec<_> = swept.into_iter().map(|swept| swept.order_id).collect();
        ids.sort();
        ids
    };
    assert_eq!(found(10).await, [ids[0], ids[2]]);
    assert_eq!(status(&store, ids[2]).await, OrderStatus::Pending);
    assert_eq!(store.sweep(10, Duration::from_mins(1)).await.unwrap(), [], "marked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sweepers_at_the_same_time_share_the_work() {
    let store = store().await;
    let ids = orders(&store, 300).await;
    // Older than what the sweepers look for, whatever the time between the statements.
    sqlx::query("UPDATE orders SET created_at = now() - interval '1 hour'")
        .execute(store.pool())
        .await
        .unwrap();
    let mut sweepers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = store.clone();
        sweepers.spawn(async move {
            let mut found = Vec::new();
            loop {
                let swept = store.sweep(20, Duration::from_mins(1)).await.unwrap();
                if swept.is_empty() {
                    return found;
                }
                found.extend(swept.into_iter().map(|swept| swept.order_id));
            }
        });
    }
    let mut found = sweepers.join_all().await.concat();
    found.sort();
    assert_eq!(found, ids, "each once");
}
