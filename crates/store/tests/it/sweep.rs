//! The orders that the sweep finds, and those that it ignores.

use std::time::Duration;

use holdfast_domain::{OrderId, OrderStatus};
use holdfast_store::{
    Store,
    fulfilment::{AttemptResult, SweepRule},
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

/// The result of one step of a sweep, while nothing waits in the queue.
pub async fn found(store: &Store, limit: u32, lost_after: Duration) -> Vec<OrderId> {
    let rule = SweepRule {
        waiting: Duration::ZERO,
        lost_after,
        lost_before: None,
        horizon: HORIZON,
        limit,
    };
    let (swept, _) = store.sweep(rule, None).await.unwrap();
    let mut ids: Vec<_> = swept.into_iter().map(|swept| swept.order_id).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn a_sweep_finds_lost_orders_once() {
    let store = store().await;
    let ids = orders(&store, 4).await;
    claim_one(&store, ids[1], LEASE).await;
    claim_one(&store, ids[2], OVER).await;
    let retry = AttemptResult::Retry(Duration::from_mins(1), "busy".to_owned());
    claim_one(&store, ids[3], LEASE).await;
    store.finish(&[(ids[3], 1, retry).into()]).await.unwrap();

    assert_eq!(found(&store, 10, Duration::from_mins(1)).await, [ids[2]], "its lease is over");
    assert_eq!(status(&store, ids[2]).await, OrderStatus::Pending);
    assert_eq!(found(&store, 10, Duration::from_mins(1)).await, [], "marked, or too young");
    // Time must pass.
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(found(&store, 10, Duration::from_millis(1)).await, [ids[0], ids[2]]);
}

#[tokio::test]
async fn a_sweep_ignores_orders_that_may_be_in_the_queue() {
    let store = store().await;
    let ids = orders(&store, 3).await;
    for (id, age) in ids.iter().zip(["90 s", "50 s", "1 h"]) {
        age_by(&store, *id, age).await;
    }
    claim_one(&store, ids[2], OVER).await;
    let rule = SweepRule {
        waiting: Duration::from_mins(1),
        lost_after: Duration::from_secs(10),
        lost_before: None,
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
async fn returned_orders_are_not_lost() {
    let store = store().await;
    let id = orders(&store, 1).await[0];
    age_by(&store, id, "1 h").await;
    claim_one(&store, id, LEASE).await;
    store.finish(&[(id, 1, AttemptResult::HandedBack).into()]).await.unwrap();
    assert_eq!(found(&store, 10, Duration::from_mins(1)).await, []);
    assert_eq!(found(&store, 10, Duration::ZERO).await, [id]);
}

/// What was written an hour ago by the current clock is an hour ahead.
#[tokio::test]
async fn orders_from_before_the_clock_was_set_back_are_found_once() {
    let store = store().await;
    let ids = orders(&store, 6).await;
    // Accepted, and: not published; claimed by a worker that died; waiting for its next attempt.
    claim_one(&store, ids[1], LEASE).await;
    claim_one(&store, ids[2], LEASE).await;
    let retry = AttemptResult::Retry(Duration::from_secs(1), "no".to_owned());
    store.finish(&[(ids[2], 1, retry).into()]).await.unwrap();
    // The same, accepted long before; and one that still waits for its next attempt.
    for id in &ids[3..] {
        age_by(&store, *id, "2 h").await;
    }
    claim_one(&store, ids[3], LEASE).await;
    for id in &ids[4..] {
        claim_one(&store, *id, LEASE).await;
        let retry = AttemptResult::Retry(Duration::from_mins(3), "no".to_owned());
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
async fn a_sweep_continues_where_it_stopped() {
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
        lost_before: None,
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
    // Older than what the sweeps look for, whatever the time between the statements.
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

/// The result of a sweep after the queue has lost everything at this time.
async fn found_after_loss(store: &Store, lost_before: jiff::Timestamp, limit: u32) -> Vec<OrderId> {
    let hour = Duration::from_hours(1);
    let rule = SweepRule {
        waiting: hour,
        lost_after: hour,
        lost_before: Some(lost_before),
        horizon: HORIZON,
        limit,
    };
    let (mut ids, mut from) = (Vec::new(), None);
    loop {
        let (swept, next) = store.sweep(rule, from).await.unwrap();
        ids.extend(swept.into_iter().map(|swept| swept.order_id));
        from = next;
        if from.is_none() {
            ids.sort();
            return ids;
        }
    }
}

#[tokio::test]
async fn after_a_loss_all_pending_orders_from_before_it_are_found_once() {
    let store = store().await;
    let ids = orders(&store, 6).await;
    claim_one(&store, ids[1], LEASE).await;
    let retry = AttemptResult::Retry(Duration::from_mins(1), "busy".to_owned());
    claim_one(&store, ids[2], LEASE).await;
    store.finish(&[(ids[2], 1, retry).into()]).await.unwrap();
    let lost = store.clock().await.unwrap();
    let later = orders(&store, 1).await;

    let before = [ids[0], ids[3], ids[4], ids[5]];
    assert_eq!(found_after_loss(&store, lost, 3).await, before, "however young they are");
    assert_eq!(found_after_loss(&store, lost, 3).await, [], "another worker has them");
    let again = store.clock().await.unwrap();
    assert_eq!(found_after_loss(&store, again, 100).await, [&before[..], &later].concat());
}

#[tokio::test]
async fn orders_with_a_later_attempt_are_listed_with_its_time() {
    let store = store().await;
    let ids = orders(&store, 3).await;
    for (id, delay) in [(ids[0], 20), (ids[2], 5)] {
        claim_one(&store, id, LEASE).await;
        let retry = AttemptResult::Retry(Duration::from_mins(delay), "busy".to_owned());
        store.finish(&[(id, 1, retry).into()]).await.unwrap();
    }
    let found = store.set_aside(HORIZON, OrderId(0), 1).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0.order_id, ids[0]);
    assert_eq!(found[0].1.as_secs() / 60, 19, "{found:?}");
    let found = store.set_aside(HORIZON, ids[0], 10).await.unwrap();
    assert_eq!(found.iter().map(|(it, _)| it.order_id).collect::<Vec<_>>(), [ids[2]]);
    // A time that is so far ahead was written before the clock was set back.
    let found = store.set_aside(Duration::from_mins(10), OrderId(0), 10).await.unwrap();
    assert_eq!(found.iter().map(|(it, _)| it.order_id).collect::<Vec<_>>(), [ids[2]]);
}

#[tokio::test]
async fn unfinished_orders_are_counted_up_to_a_number_or_all() {
    let store = store().await;
    let ids = orders(&store, 5).await;
    claim_one(&store, ids[0], LEASE).await;
    claim_one(&store, ids[1], LEASE).await;
    store.finish(&[(ids[1], 1, AttemptResult::Completed).into()]).await.unwrap();
    assert_eq!(store.count_unfinished(None).await.unwrap(), 4);
    assert_eq!(store.count_unfinished(Some(3)).await.unwrap(), 3);
    assert_eq!(store.count_unfinished(Some(100)).await.unwrap(), 4);
}
