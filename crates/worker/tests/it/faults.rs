use std::time::Duration;

use holdfast_sandbox::http_get;
use holdfast_store::fulfilment::Verdict;
use holdfast_worker::Simulated;

use crate::fixture::{Shop, quick};

#[tokio::test]
async fn a_worker_killed_in_mid_job_loses_nothing() {
    let shop = Shop::open().await;
    let ids = shop.orders(50).await;
    shop.publish(&ids).await;
    let victim = shop.start(shop.binary().env("HOLDFAST_FULFILMENT_MS", "600000")).await;
    shop.until("processing", 50).await;
    victim.kill9().await.unwrap();
    let _heir = shop.start(shop.binary()).await;
    shop.until("completed", 50).await;
    shop.until_empty().await;
    // The dead worker's claims are worth nothing any more.
    let late: Vec<_> = ids.iter().map(|id| (*id, 1, Verdict::Failed("late".to_owned()))).collect();
    assert_eq!(shop.store.finish(&late).await.unwrap(), []);
    assert_eq!(shop.count("completed").await, 50);
}

#[tokio::test]
async fn orders_that_redis_forgot_are_found_and_completed() {
    let shop = Shop::open().await;
    let ids = shop.orders(500).await;
    shop.publish(&ids).await;
    shop.redis.flush().await.unwrap();
    let _worker = shop.start(shop.binary()).await;
    shop.until("completed", 500).await;
    shop.until_empty().await;
}

#[tokio::test]
async fn a_flush_while_orders_are_worked_on_loses_nothing() {
    let shop = Shop::open().await;
    let ids = shop.orders(400).await;
    shop.publish(&ids).await;
    let slow = Simulated { duration: Duration::from_millis(50), fail_percent: 10 };
    let settings = holdfast_worker::WorkerSettings { max_attempts: 100, ..quick() };
    let _worker = shop.worker(settings, slow);
    while shop.count("completed").await < 50 {
        tokio::task::yield_now().await;
    }
    shop.redis.flush().await.unwrap();
    shop.until("completed", 400).await;
}

#[tokio::test]
async fn a_worker_started_before_its_servers_waits_and_says_so() {
    let shop = Shop::open().await;
    let ids = shop.orders(10).await;
    shop.redis.kill9().await.unwrap();
    let port = holdfast_sandbox::Port::lease().unwrap();
    let address = format!("127.0.0.1:{}", port.number());
    let ready = format!("http://{address}/readyz");
    let live = format!("http://{address}/livez");
    let worker = shop.start(shop.binary().env("HOLDFAST_METRICS_ADDR", &address)).await;
    let begun = std::time::Instant::now();
    while http_get(&live).await.is_err() {
        assert!(begun.elapsed() < crate::fixture::PATIENCE, "{}", worker.log_tail(20));
    }
    assert_eq!(http_get(&ready).await.unwrap().status, 503);
    shop.redis.restart().await.unwrap();
    // They were never published: the sweep finds them.
    shop.until("completed", ids.len().try_into().unwrap()).await;
    assert_eq!(http_get(&ready).await.unwrap().status, 200);
    assert_eq!(worker.status(), None, "it never ended");
}

#[tokio::test]
async fn an_order_whose_worker_always_dies_is_given_up() {
    let shop = Shop::open().await;
    let ids = shop.orders(1).await;
    // Three claims that ended without a word.
    for _ in 0..3 {
        assert_eq!(shop.store.claim(&ids, Duration::ZERO).await.unwrap().len(), 1);
    }
    let _worker = shop.worker(quick(), Simulated { duration: Duration::ZERO, fail_percent: 0 });
    shop.until("failed", 1).await;
    let order = shop.store.order(ids[0]).await.unwrap().unwrap();
    assert_eq!(
        order.failure.as_deref(),
        Some("gave up after 3 tries, the last without an outcome")
    );
}
