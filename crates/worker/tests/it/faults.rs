use std::time::Duration;

use holdfast_sandbox::{Port, Postgres, PostgresOptions, http_get};
use holdfast_store::fulfilment::AttemptResult;
use holdfast_worker::{FulfilError, Fulfilment, OrderToFulfil, Simulated};

use crate::fixture::{WorkerFixture, quick, until, until_status};

#[tokio::test]
async fn a_worker_killed_during_an_attempt_loses_nothing() {
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(50).await;
    shop.publish(&ids).await;
    let victim = shop.start(shop.binary().env("HOLDFAST_FULFILMENT_MS", "600000")).await;
    shop.until("processing", 50).await;
    victim.kill9().await.unwrap();
    let _heir = shop.start(shop.binary()).await;
    shop.until("completed", 50).await;
    shop.until_empty().await;
    // The claims of the killed worker are no longer valid.
    let late: Vec<_> =
        ids.iter().map(|id| (*id, 1, AttemptResult::Failed("late".to_owned())).into()).collect();
    assert_eq!(shop.store.finish(&late).await.unwrap().done, []);
    assert_eq!(shop.count("completed").await, 50);
}

#[tokio::test]
async fn orders_that_redis_lost_are_found_and_completed() {
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(500).await;
    shop.publish(&ids).await;
    shop.redis.flush().await.unwrap();
    let _worker = shop.start(shop.binary()).await;
    shop.until("completed", 500).await;
    shop.until_empty().await;
}

#[tokio::test]
async fn a_flush_while_orders_are_in_flight_loses_nothing() {
    let shop = WorkerFixture::open().await;
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
async fn a_worker_started_before_its_servers_waits_and_reports_it() {
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(10).await;
    shop.redis.kill9().await.unwrap();
    let port = Port::lease().unwrap();
    let address = format!("127.0.0.1:{}", port.number());
    let ready = format!("http://{address}/readyz");
    let live = format!("http://{address}/livez");
    let worker = shop.start(shop.binary().env("HOLDFAST_METRICS_ADDR", &address)).await;
    until_status(&live, 200).await;
    assert_eq!(http_get(&ready).await.unwrap().status, 503);
    shop.redis.restart().await.unwrap();
    // They were never published, so the sweep finds them.
    shop.until("completed", ids.len().try_into().unwrap()).await;
    until_status(&ready, 200).await;
    assert_eq!(worker.status(), None, "it never ended");
}

#[tokio::test]
async fn a_worker_whose_database_fails_reports_it_and_continues_later() {
    let server = Postgres::start(PostgresOptions::default()).await.unwrap();
    let shop = WorkerFixture::open_on(&server).await;
    let ids = shop.orders(300).await;
    let port = Port::lease().unwrap();
    let address = port.address().to_string();
    let ready = format!("http://{address}/readyz");
    let options = shop
        .binary()
        .env("HOLDFAST_METRICS_ADDR", &address)
        .env("HOLDFAST_FULFILMENT_MS", "1000")
        .env("HOLDFAST_WORKER_CONCURRENCY", "100");
    let worker = shop.start(options).await;
    until_status(&ready, 200).await;
    shop.publish(&ids).await;
    until("many are in flight", async || shop.count("processing").await >= 50).await;
    server.kill9().await.unwrap();
    until_status(&ready, 503).await;
    server.restart().await.unwrap();
    shop.until("completed", 300).await;
    shop.until_empty().await;

    // This also holds without any work.
    server.kill9().await.unwrap();
    until_status(&ready, 503).await;
    server.restart().await.unwrap();
    until_status(&ready, 200).await;
    assert_eq!(worker.status(), None, "it never ended");
}

#[tokio::test]
async fn an_order_that_the_database_refuses_delays_no_others() {
    let shop = WorkerFixture::open().await;
    shop.orders(40).await;
    shop.sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE 'refused'; END $$; \
         CREATE TRIGGER claim BEFORE UPDATE ON orders FOR EACH ROW \
             WHEN (NEW.id = 7 AND NEW.status = 'processing') EXECUTE FUNCTION refuse(); \
         CREATE TRIGGER finish BEFORE UPDATE ON orders FOR EACH ROW \
             WHEN (NEW.id = 9 AND NEW.status = 'completed') EXECUTE FUNCTION refuse()",
    )
    .await;
    let _worker = shop.worker(quick(), Simulated { duration: Duration::ZERO, fail_percent: 0 });
    shop.until("completed", 38).await;
    shop.sql("DROP TRIGGER claim ON orders; DROP TRIGGER finish ON orders").await;
    shop.until("completed", 40).await;
}

/// Never ends, and reports when it is dropped.
struct Endless(tokio::sync::mpsc::UnboundedSender<()>);

impl Drop for Endless {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

struct EndlessWork(tokio::sync::mpsc::UnboundedSender<()>);

impl Fulfilment for EndlessWork {
    async fn fulfil(&self, _work: OrderToFulfil) -> Result<(), FulfilError> {
        let _endless = Endless(self.0.clone());
        std::future::pending().await
    }
}

#[tokio::test]
async fn an_attempt_whose_claim_was_lost_is_aborted_and_frees_its_slot() {
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(2).await;
    shop.publish(&ids[..1]).await;
    let (sender, mut dropped) = tokio::sync::mpsc::unbounded_channel();
    let one_hand = holdfast_worker::WorkerSettings {
        concurrency: 1,
        sweep_after: Duration::from_hours(1),
        ..quick()
    };
    let _worker = shop.worker(one_hand, EndlessWork(sender));
    shop.until("processing", 1).await;
    // Another worker has it now.
    shop.sql(
        "UPDATE orders SET attempt = attempt + 1, lease_until = now() + interval '30 seconds' \
         WHERE status = 'processing'",
    )
    .await;
    tokio::time::timeout(crate::fixture::PATIENCE, dropped.recv()).await.unwrap().unwrap();
    shop.publish(&ids[1..]).await;
    shop.until("processing", 2).await;
    assert_eq!(shop.store.order(ids[0]).await.unwrap().unwrap().attempt, 2);
}

#[tokio::test]
async fn an_order_whose_worker_always_dies_becomes_a_dead_letter() {
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(1).await;
    // Three claims that ended without an outcome.
    for _ in 0..3 {
        assert_eq!(shop.store.claim(&ids, Duration::ZERO).await.unwrap().len(), 1);
    }
    let _worker = shop.worker(quick(), Simulated { duration: Duration::ZERO, fail_percent: 0 });
    shop.until("failed", 1).await;
    let order = shop.store.order(ids[0]).await.unwrap().unwrap();
    assert_eq!(
        order.failure.as_deref(),
        Some("gave up after 3 attempts; the last one ended without an outcome")
    );
}
