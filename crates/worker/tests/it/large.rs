//! Large orders, within the memory limit of the chart's worker.

use std::time::{Duration, Instant};

use holdfast_worker::Simulated;

use crate::{
    fixture::{WorkerFixture, quick},
    receiver::{Receiver, ReceiverReply},
};

/// The memory limit of the worker in the chart.
const MEMORY: u64 = 256 << 20;

/// 380 KB as text, 8 KB as it was sent to the previous version.
const EXPAND: &str = "UPDATE orders SET metadata = \
    (SELECT jsonb_build_object('a', jsonb_agg('5e-324'::numeric)) FROM generate_series(1, 1160))";

#[tokio::test]
async fn orders_of_any_size_are_fulfilled_within_the_memory_of_the_chart() {
    let receiver = Receiver::start(|_, _| ReceiverReply::Status(200)).await;
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(600).await;
    shop.sql(EXPAND).await;
    shop.publish(&ids).await;
    let options = shop.binary_with_webhook(&receiver.url());
    let mut limited = holdfast_sandbox::ProcessOptions::new("/usr/bin/prlimit")
        .arg(format!("--data={MEMORY}"))
        .arg(options.program.display().to_string());
    limited.args.extend(options.args);
    limited.env = options.env;
    // So that no lease expires, however slow the machine is.
    let limited = limited.env("HOLDFAST_LEASE_MS", "60000");
    let worker = shop.start(limited).await;
    let begun = Instant::now();
    while shop.count("completed").await < 600 {
        assert!(begun.elapsed() < Duration::from_mins(3), "{}", worker.log_tail(5));
        assert!(worker.status().is_none(), "{}", worker.log_tail(5));
        // Longer than other waits, because the memory limit makes this slow.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(worker.status().is_none(), "{}", worker.log_tail(5));
    let tries: i64 = sqlx::query_scalar("SELECT max(attempt)::bigint FROM orders")
        .fetch_one(shop.store.pool())
        .await
        .unwrap();
    assert_eq!(tries, 1);
}

#[tokio::test]
async fn an_order_that_cannot_be_read_becomes_a_dead_letter_and_others_continue() {
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(8).await;
    shop.sql(
        "UPDATE orders SET metadata = '{}'; \
         UPDATE orders SET metadata = jsonb_build_object('a', repeat('x', 3000000)) WHERE id = 1; \
         UPDATE orders SET created_at = '-infinity' WHERE id = 3; \
         UPDATE orders SET created_at = 'infinity' WHERE id = 5",
    )
    .await;
    shop.publish(&ids).await;
    let settings = holdfast_worker::WorkerSettings { max_attempts: 2, ..quick() };
    let _worker = shop.worker(settings, Simulated { duration: Duration::ZERO, fail_percent: 0 });
    shop.until("failed", 3).await;
    shop.until("completed", 5).await;
    let failed: Vec<(i64, String)> =
        sqlx::query_as("SELECT id, failure FROM orders WHERE status = 'failed' ORDER BY id")
            .fetch_all(shop.store.pool())
            .await
            .unwrap();
    for ((id, failure), expected) in failed.iter().zip([1, 3, 5]) {
        assert_eq!(*id, expected);
        assert!(failure.contains("cannot be read"), "{failure}");
    }
}

/// A worker that is killed by what it reads has used an attempt by then. Such an order is not read again.
#[tokio::test]
async fn an_order_that_has_crashed_too_many_workers_is_not_read_again() {
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(1).await;
    shop.sql("UPDATE orders SET metadata = '{}'").await;
    let settings = holdfast_worker::WorkerSettings { max_attempts: 3, ..quick() };
    for attempt in 1..=3 {
        // As if the worker had died right after the claim.
        let claims = shop.store.claim(&ids, Duration::ZERO).await.unwrap();
        assert_eq!(claims[0].attempt, attempt);
    }
    // Reading it always fails.
    shop.sql("UPDATE orders SET metadata = jsonb_build_object('a', repeat('x', 3000000))").await;
    shop.publish(&ids).await;
    let _worker = shop.worker(settings, Simulated { duration: Duration::ZERO, fail_percent: 0 });
    shop.until("failed", 1).await;
    let failure: String = sqlx::query_scalar("SELECT failure FROM orders")
        .fetch_one(shop.store.pool())
        .await
        .unwrap();
    assert!(failure.contains("without an outcome"), "{failure}");
}
