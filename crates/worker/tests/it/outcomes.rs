use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use holdfast_domain::OrderId;
use holdfast_worker::{FulfilError, Fulfilment, OrderToFulfil, Simulated};

use crate::fixture::{PATIENCE, SHORT_LEASE, WorkerFixture, quick};

const EMPTY: Simulated = Simulated { duration: Duration::ZERO, fail_percent: 0 };

#[tokio::test]
async fn orders_are_completed_and_their_messages_acknowledged() {
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(300).await;
    shop.publish(&ids).await;
    // A second delivery has no effect.
    shop.publish(&ids[..50]).await;
    let worker = shop.worker(quick(), EMPTY);
    shop.until("completed", 300).await;
    shop.until_empty().await;
    let tries: i64 = sqlx::query_scalar("SELECT sum(attempt)::bigint FROM orders")
        .fetch_one(shop.store.pool())
        .await
        .unwrap();
    assert_eq!(tries, 300, "each was claimed once");
    assert!(worker.shutdown(PATIENCE).await);
}

/// Answers by the order's id, and counts the attempts.
#[derive(Clone, Default)]
struct ByOrder {
    tries: Arc<Mutex<HashMap<OrderId, i32>>>,
    panics: Vec<OrderId>,
    retries: Vec<OrderId>,
    fails: Vec<OrderId>,
}

impl Fulfilment for ByOrder {
    async fn fulfil(&self, work: OrderToFulfil) -> Result<(), FulfilError> {
        self.tries.lock().unwrap().insert(work.order_id, work.tries);
        assert!(!self.panics.contains(&work.order_id), "a defect in fulfilment");
        if self.fails.contains(&work.order_id) {
            return Err(FulfilError::Fail("no such street".to_owned()));
        }
        if self.retries.contains(&work.order_id) {
            return Err(FulfilError::Retry("the carrier is asleep".to_owned()));
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_failing_order_is_tried_again_then_fails_and_stops_no_others() {
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(20).await;
    let fulfilment = ByOrder {
        panics: vec![ids[3]],
        retries: vec![ids[4]],
        fails: vec![ids[5]],
        ..ByOrder::default()
    };
    shop.publish(&ids).await;
    let _worker = shop.worker(quick(), fulfilment.clone());
    shop.until("completed", 17).await;
    shop.until("failed", 3).await;
    shop.until_empty().await;

    let tries = fulfilment.tries.lock().unwrap().clone();
    let of = async |id: OrderId| {
        let order = shop.store.order(id).await.unwrap().unwrap();
        (tries[&id], order.failure.unwrap_or_default())
    };
    assert_eq!(of(ids[0]).await, (1, String::new()));
    assert_eq!(of(ids[3]).await, (3, "gave up after 3 attempts: fulfilment panicked".to_owned()));
    assert_eq!(of(ids[4]).await, (3, "gave up after 3 attempts: the carrier is asleep".to_owned()));
    assert_eq!(of(ids[5]).await, (1, "no such street".to_owned()));
}

/// Panics before its first await.
struct PanicsAtOnce(OrderId);

impl Fulfilment for PanicsAtOnce {
    fn fulfil(&self, work: OrderToFulfil) -> impl Future<Output = Result<(), FulfilError>> + Send {
        assert_ne!(work.order_id, self.0, "a defect in fulfilment");
        std::future::ready(Ok(()))
    }
}

#[tokio::test]
async fn a_panic_before_the_first_await_stops_no_other_order() {
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(20).await;
    shop.publish(&ids).await;
    let _worker = shop.worker(quick(), PanicsAtOnce(ids[0]));
    shop.until("failed", 1).await;
    shop.until("completed", 19).await;
}

#[tokio::test]
async fn an_entry_for_a_missing_order_is_acknowledged() {
    let shop = WorkerFixture::open().await;
    // As after a restore of the database: order numbers that do not exist yet, and numbers that were assigned again.
    shop.publish(&[OrderId(1), OrderId(2), OrderId(4711)]).await;
    let ids = shop.orders(2).await;
    shop.sql("UPDATE orders SET status = 'cancelled' WHERE id = 2").await;
    let _worker = shop.worker(quick(), EMPTY);
    shop.until("completed", 1).await;
    shop.until_empty().await;
    assert_eq!(shop.order(ids[0]).await.attempt, 1);
    assert_eq!(shop.order(ids[1]).await.attempt, 0);
}

#[tokio::test]
async fn a_long_attempt_keeps_its_claim() {
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(1).await;
    shop.publish(&ids).await;
    // Longer than two leases, with a second worker that would take the order over.
    let long = Simulated { duration: 2 * SHORT_LEASE + SHORT_LEASE / 2, fail_percent: 0 };
    let settings = holdfast_worker::WorkerSettings { lease: SHORT_LEASE, ..quick() };
    let _one = shop.worker(settings, long);
    let _other = shop.worker(settings, long);
    shop.until("completed", 1).await;
    let order = shop.store.order(ids[0]).await.unwrap().unwrap();
    assert_eq!(order.attempt, 1);
}

#[tokio::test]
async fn orders_in_flight_do_not_exceed_the_concurrency_limit() {
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(100).await;
    shop.publish(&ids).await;
    let settings = holdfast_worker::WorkerSettings { concurrency: 5, ..quick() };
    let slow = Simulated { duration: Duration::from_millis(50), fail_percent: 0 };
    let _worker = shop.worker(settings, slow);
    let mut most = 0;
    while shop.count("completed").await < 100 {
        most = most.max(shop.count("processing").await);
    }
    assert!((1..=5).contains(&most), "{most}");
}
