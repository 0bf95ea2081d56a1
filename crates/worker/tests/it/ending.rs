use std::time::Duration;

use holdfast_worker::Simulated;

use crate::fixture::{PATIENCE, WorkerFixture, quick};

#[tokio::test]
async fn sigterm_finishes_orders_in_flight() {
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(20).await;
    shop.publish(&ids).await;
    let binary = shop.binary().env("HOLDFAST_FULFILMENT_MS", "3000");
    // So that no lease expires, however slow the machine is.
    let worker = shop.start(binary.env("HOLDFAST_LEASE_MS", "60000")).await;
    shop.until("processing", 20).await;
    let status = worker.stop(PATIENCE).await.unwrap();
    assert!(status.success(), "{status}: {}", worker.log_tail(20));
    assert_eq!(shop.count("completed").await, 20);
    assert_eq!(shop.queue.depth().await.unwrap().total(), 0);
}

#[tokio::test]
async fn orders_that_cannot_be_finished_in_time_are_handed_back_at_once() {
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(20).await;
    shop.publish(&ids).await;
    // A lease of an hour, during which no other worker could take the orders.
    let patient = holdfast_worker::WorkerSettings { lease: Duration::from_hours(1), ..quick() };
    let endless = Simulated { duration: Duration::from_hours(1), fail_percent: 0 };
    let worker = shop.worker(patient, endless);
    shop.until("processing", 20).await;
    assert!(!worker.shutdown(Duration::from_millis(100)).await);
    shop.until("pending", 20).await;
    let _heir = shop.worker(patient, Simulated { duration: Duration::ZERO, fail_percent: 0 });
    shop.until("completed", 20).await;
}

#[tokio::test]
async fn a_second_signal_stops_the_process_at_once() {
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(1).await;
    shop.publish(&ids).await;
    let worker = shop.start(shop.binary().env("HOLDFAST_FULFILMENT_MS", "600000")).await;
    shop.until("processing", 1).await;
    worker.terminate().unwrap();
    worker.logs(&["no more orders are started"]).await;
    worker.terminate().unwrap();
    let status = worker.wait(PATIENCE).await.expect("it does not end");
    assert!(!status.success());
}
