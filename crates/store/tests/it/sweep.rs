//! What the sweep finds, and what it leaves alone.

use std::time::Duration;

use holdfast_domain::{OrderId, OrderStatus};
use holdfast_store::{
    Store,
    fulfilment::{SweepRule, Verdict},
};

use crate::fixture::store;
use crate::fulfilment::{LEASE, OVER, claim_one, orders, status};

/// Longer than the leases and waits of these tests.
const HORIZON: Duration = Duration::from_mins(50);

async fn age_by(store: &Store, id: OrderId, interval: &str) {
    sqlx::query("UPDATE orders SET created_at = now() - $1::text::interval WHERE id = $2")
        .bind(interval)
        .bind(id.0)
        .execute(store.pool())
        .await
        .unwrap();
}

/// What a sweep finds in one step, while nothing waits in the queue.
pub async fn found(store: &Store, limit: u32, lost_after: Duration) -> Vec<OrderId> {
    let rule = SweepRule { waiting: Duration::ZERO, lost_after, horizon: HORIZON, limit };
    let (swept, _) = store.sweep(rule, None).await.unwrap();
    let mut ids: Vec<_> = swept.into_iter().map(|swept| swept.order_id).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn a_sweep_finds_what_was_lost_once() {
    let store = store().await;
    let ids = orders(&store, 4).await;
    claim_one(&store, ids[1], LEASE).await;
    claim_one(&store, ids[2], OVER).await;
    let retry = Verdict::Retry(Duration::from_mins(1), "busy".to_owned());
    claim_one(&store, ids[3], LEASE).await;
    store.finish(&[(ids[3], 1, retry).into()]).await.unwrap();

    assert_eq!(found(&store, 10, Duration::from_mins(1)).await, [ids[2]], "its lease is over");
    assert_eq!(status(&store, ids[2]).await, OrderStatus::Pending);
    assert_eq!(found(&store, 10, Duration::from_mins(1)).await, [], "marked, or too young");
    // The time that has passed is the subject.
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(found(&store, 10, Duration::from_millis(1)).await, [ids[0], ids[2]]);
}

#[tokio::test]
async fn a_sweep_leaves_alone_what_may_wait_in_the_queue() {
    let store = store().await;
    let ids = orders(&store, 3).await;
    for (id, age) in ids.iter().zip(["90 s", "50 s", "1 h"]) {
        age_by(&store, *id, age).await;
    }
    claim_one(&store, ids[2], OVER).await;
    let rule = SweepRule {
        waiting: Duration::from_mins(1),
        lost_after: Duration::from_secs(10),
        horizon: HORIZON,
        limit: 10,
    };
    let (swept, more) = store.sweep(rule, None).await.unwrap();
    let mut swept: Vec<_> = swept.into_iter().map(|swept| swept.order_id).collect();
    swept.sort();
    assert_eq!(swept, [ids[0], ids[2]]);
    assert_eq!(more, None);
}

#[tokio::test]
async fn what_was_handed_back_is_on_its_way_and_not_lost() {
    let store = store().await;
    let id = orders(&store, 1).await[0];
    age_by(&store, id, "1 h").await;
    claim_one(&store, id, LEASE).await;
    store.finish(&[(id, 1, Verdict::HandedBack).into()]).await.unwrap();
    assert_eq!(found(&store, 10, Duration::from_mins(1)).await, []);
    assert_eq!(found(&store, 10, Duration::ZERO).await, [id]);
}

/// What was written an hour ago by today's clock is an hour ahead.
#[tokio::test]
async fn what_was_written_before_the_clock_was_set_back_is_found_once() {
    let store = store().await;
    let ids = orders(&store, 6).await;
    // Accepted, and: not published; in a worker's hands that died; waiting for its next try.
    claim_one(&store, ids[1], LEASE).await;
    claim_one(&store, ids[2], LEASE).await;
    let retry = Verdict::Retry(Duration::from_secs(1), "no".to_owned());
    store.finish(&[(ids[2], 1, retry).into()]).await.unwrap();
    // The same, accepted long before; and one that waits, as it was told, for its time.
    for id in &ids[3..] {
        age_by(&store, *id, "2 h").await;
    }
    claim_one(&store, ids[3], LEASE).await;
    for id in &ids[4..] {
        claim_one(&store, *id, LEASE).await;
        let retry = Verdict::Retry(Duration::from_mins(3), "no".to_owned());
        store.finish(&[(*id, 1, retry).into()]).await.unwrap();
    }
    sqlx::query(
        "UPDATE orders SET lease_until = lease_until + interval '1 hour', \
         next_attempt_at = next_attempt_at + interval '1 hour', \
         created_at = created_at + interval '1 hour' WHERE id <> $1",
    )
    .bind(ids[5].0)
    .execute(store.pool())
    .await
    .unwrap();
    let lost_after = Duration::from_mins(1);
    assert_eq!(found(&store, 10, lost_after).await, ids[..5]);
    assert_eq!(found(&store, 10, lost_after).await, []);
    assert_eq!(store.claim(&ids[..5], LEASE).await.unwrap().len(), 5, "and can be done");
    assert_eq!(found(&store, 10, lost_after).await, [], "their new leases hold");
}

#[tokio::test]
async fn a_sweep_goes_on_where_it_stopped() {
    let store = store().await;
    let ids = orders(&store, 10).await;
    for id in &ids {
        // Three have the same time, across the end of a step.
        let age = if (3..6).contains(&id.0) { 50 } else { 100 - id.0 };
        age_by(&store, *id, &format!("{age} min")).await;
    }
    let rule = SweepRule {
        waiting: Duration::ZERO,
        lost_after: Duration::from_mins(1),
        horizon: HORIZON,
        limit: 4,
    };
    let (mut found, mut from, mut steps) = (Vec::new(), None, 0);
    loop {
        let (swept, next) = store.sweep(rule, from).await.unwrap();
        found.extend(swept.into_iter().map(|swept| swept.order_id));
        from = next;
        steps += 1;
        if from.is_none() {
            break;
        }
    }
    found.sort();
    assert_eq!(found, ids, "each once");
    assert_eq!(steps, 3);
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
            let mut all = Vec::new();
            loop {
                let found = found(&store, 20, Duration::from_mins(1)).await;
                if found.is_empty() {
                    return all;
                }
                all.extend(found);
            }
        });
    }
    let mut found = sweepers.join_all().await.concat();
    found.sort();
    assert_eq!(found, ids, "each once");
}
