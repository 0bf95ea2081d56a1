//! Receivers that are slow or down for a long time: no order is lost, and other orders are not delayed.

use std::time::{Duration, Instant};

use holdfast_sandbox::Port;
use holdfast_telemetry::Registry;
use holdfast_worker::{Simulated, WorkerSettings, webhook::Webhook};
use tokio::net::TcpListener;

use crate::{
    fixture::{WorkerFixture, quick, until},
    receiver::{Receiver, ReceiverReply, settings},
};

/// The waits are so short that this number of requests stands for hours. With a first wait of 1 s that doubles up to 5
/// minutes, ten attempts take less than half an hour.
const OUTAGE_REQUESTS: usize = 150;

/// The time limit until orders are fulfilled again, on a busy machine.
pub const BACK_LIMIT: Duration = Duration::from_secs(10);

const OLD_KEY: &str = "INSERT INTO idempotency_keys (key, fingerprint, kind, result_id, created_at) \
    VALUES ('00000000-0000-0000-0000-000000000001', 1, 'order', 1, now() - interval '2 hours')";

#[tokio::test]
async fn a_long_time_of_500_answers_loses_nothing() {
    let receiver = Receiver::start(|_, number| {
        ReceiverReply::Status(if number < OUTAGE_REQUESTS { 500 } else { 200 })
    })
    .await;
    let shop = WorkerFixture::open().await;
    shop.publish(&shop.orders(20).await).await;
    let _worker = shop.worker(quick(), receiver.webhook());
    shop.until("completed", 20).await;
    assert_eq!(receiver.requests().len(), OUTAGE_REQUESTS + 20, "and none was sent twice");
    let most: i32 = sqlx::query_scalar("SELECT max(attempt) FROM orders")
        .fetch_one(shop.store.pool())
        .await
        .unwrap();
    assert!(most > quick().max_attempts, "{most}: the outage was too short to prove anything");
}

#[tokio::test]
async fn an_outage_of_the_receiver_of_more_than_an_hour_loses_nothing() {
    let gone = Port::lease().unwrap();
    let address = gone.address();
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(10).await;
    // They were accepted an hour ago, so the following attempts are those of the second hour.
    shop.sql("UPDATE orders SET created_at = created_at - interval '1 hour'").await;
    shop.publish(&ids).await;
    let webhook =
        Webhook::new(settings(&format!("http://{address}/orders")), &Registry::default()).unwrap();
    let patient = WorkerSettings { retry_for: Duration::from_hours(24), ..quick() };
    let _worker = shop.worker(patient, webhook);
    until("some were tried more often than the maximum", async || {
        let most: i32 = sqlx::query_scalar("SELECT max(attempt) FROM orders")
            .fetch_one(shop.store.pool())
            .await
            .unwrap();
        most > 2 * quick().max_attempts
    })
    .await;
    assert_eq!(shop.count("failed").await, 0);

    let back = TcpListener::bind(address).await.unwrap();
    let receiver = Receiver::on(back, |_, _| ReceiverReply::Status(200));
    shop.until("completed", 10).await;
    assert_eq!(receiver.requests().len(), 10);
}

#[tokio::test]
async fn other_orders_continue_while_a_receiver_hangs() {
    let hung = Receiver::start(|_, _| ReceiverReply::Hang).await;
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(500).await;
    shop.publish(&ids[..100]).await;
    let mut settings = hung.settings();
    settings.connections = 4;
    settings.timeout = Duration::from_mins(10);
    let patient = WorkerSettings { concurrency: 1000, sweep_after: Duration::ZERO, ..quick() };
    let _hanging = shop.worker(patient, Webhook::new(settings, &Registry::default()).unwrap());
    // It takes twice as many orders as it has connections, although its concurrency limit is 1,000.
    shop.until("processing", 8).await;
    until("each connection has sent one", async || hung.requests().len() == 4).await;
    // Its maintenance continues: unpublished orders are found.
    until("lost orders are published", async || shop.queue.depth().await.unwrap().waiting >= 400)
        .await;
    assert_eq!(shop.count("processing").await, 8);
    let _elsewhere = shop.worker(quick(), Simulated { duration: Duration::ZERO, fail_percent: 0 });
    shop.until("completed", 492).await;
    assert_eq!(shop.count("processing").await, 8, "and its claims hold");
}

#[tokio::test]
async fn other_orders_continue_while_a_receiver_is_down() {
    let gone = Port::lease().unwrap();
    let address = gone.address();
    let shop = WorkerFixture::open().await;
    let mut settings = settings(&format!("http://{address}/orders"));
    // The default delays: an order with a failed attempt is delayed by about a second, and the receiver is called less
    // and less often.
    settings.pause_base = Duration::from_secs(1);
    settings.retry_after_max = Duration::from_mins(5);
    let slow = WorkerSettings {
        retry_base: Duration::from_secs(1),
        retry_max: Duration::from_mins(5),
        ..quick()
    };
    let _in_vain = shop.worker(slow, Webhook::new(settings, &Registry::default()).unwrap());
    let first = shop.orders(20).await;
    shop.publish(&first).await;
    until("it is reported as gone", async || {
        let tried: i64 =
            sqlx::query_scalar("SELECT count(*) FROM orders WHERE failure IS NOT NULL")
                .fetch_one(shop.store.pool())
                .await
                .unwrap();
        tried >= 5
    })
    .await;

    let _elsewhere = shop.worker(quick(), Simulated { duration: Duration::ZERO, fail_percent: 0 });
    let begun = Instant::now();
    shop.publish(&shop.orders(2000).await).await;
    until("nearly all are done", async || shop.count("completed").await >= 1980).await;
    // The others would be delayed by up to five minutes.
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    // Including those with failed attempts.
    shop.until("completed", 2020).await;
}

#[tokio::test]
async fn a_receiver_that_never_answers_in_time_counts_as_down() {
    let receiver = Receiver::start(|_, number| match number {
        0..20 => ReceiverReply::Hang,
        _ => ReceiverReply::Status(200),
    })
    .await;
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(10).await;
    shop.publish(&ids).await;
    let mut settings = receiver.settings();
    settings.timeout = Duration::from_millis(500);
    let _worker = shop.worker(quick(), Webhook::new(settings, &Registry::default()).unwrap());
    shop.until("completed", 10).await;
    let mut reasons = Vec::new();
    for id in ids {
        reasons.extend(shop.order(id).await.earlier.into_iter().filter_map(|step| step.detail));
    }
    assert!(reasons.iter().any(|reason| reason.ends_with("within 500 ms")), "{reasons:?}");
}

#[tokio::test]
async fn one_order_that_the_receiver_fails_on_delays_no_others() {
    let receiver = Receiver::start(|request, _| {
        ReceiverReply::Status(if request.id() == "order_1" { 500 } else { 200 })
    })
    .await;
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(50).await;
    shop.publish(&ids).await;
    let _worker = shop.worker(quick(), receiver.webhook());
    shop.until("completed", 49).await;
}

#[tokio::test]
async fn old_keys_are_deleted_while_redis_is_down() {
    let shop = WorkerFixture::open().await;
    let settings = WorkerSettings { idempotency_age: Duration::from_hours(1), ..quick() };
    let _worker = shop.worker(settings, Simulated { duration: Duration::ZERO, fail_percent: 0 });
    shop.publish(&shop.orders(1).await).await;
    shop.until("completed", 1).await;
    shop.redis.kill9().await.unwrap();
    shop.sql(OLD_KEY).await;
    until("the key is deleted", async || {
        let keys: i64 = sqlx::query_scalar("SELECT count(*) FROM idempotency_keys")
            .fetch_one(shop.store.pool())
            .await
            .unwrap();
        keys == 0
    })
    .await;
}

/// Like a failover: all sessions end, and new ones lead to a server that accepts no writes for a while.
#[tokio::test]
async fn work_continues_at_once_when_the_database_accepts_writes_again() {
    let shop = WorkerFixture::open().await;
    // Most attempts happen while there are no writes.
    let _worker = shop.worker(quick(), Simulated { duration: Duration::ZERO, fail_percent: 0 });
    shop.publish(&shop.orders(5).await).await;
    shop.until("completed", 5).await;
    let ids = shop.orders(50).await;

    shop.take_writes(false).await;
    shop.end_sessions().await;
    shop.publish(&ids).await;
    // Time must pass: the wait between two attempts has grown to its maximum.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(shop.count("pending").await, 50);
    shop.take_writes(true).await;
    let begun = Instant::now();
    shop.until("completed", 55).await;
    assert!(begun.elapsed() < BACK_LIMIT, "{:?}", begun.elapsed());
}
