//! Receivers with endless answers.

use std::time::Duration;

use holdfast_telemetry::Registry;
use holdfast_worker::webhook::Webhook;

use crate::{
    fixture::{PATIENCE, WorkerFixture, once, quick, until},
    receiver::{Receiver, ReceiverReply},
};

const AT_ONCE: Duration = Duration::ZERO;

/// Sends an order to a receiver with this answer. Returns the failure.
async fn failure(reply: ReceiverReply, timeout: Duration) -> String {
    let receiver = Receiver::start(move |_, _| reply.clone()).await;
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(1).await;
    shop.publish(&ids).await;
    let mut settings = receiver.settings();
    settings.timeout = timeout;
    // One attempt is enough.
    settings.pause_base = Duration::from_mins(10);
    settings.retry_after_max = Duration::from_mins(10);
    let _worker = shop.worker(once(), Webhook::new(settings, &Registry::default()).unwrap());
    let order = shop.tried(ids[0]).await;
    until("the connection is closed", async || receiver.now() == 0).await;
    order.failure.unwrap()
}

#[tokio::test]
async fn an_endless_answer_is_cut_off_long_before_its_time_limit() {
    for (first, again) in [
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
        ("", "HTTP/1.1 102 Processing\r\nx: y\r\n\r\n"),
        ("", "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\n", "x: y\r\n"),
        ("HTTP/1.1 200 OK\r\nx: ", "y"),
        ("HTTP/1.1 200 ", "O"),
        ("", "\r\n"),
    ] {
        // So the limit on bytes ends it.
        let timeout = Duration::from_mins(5);
        let failure = failure(ReceiverReply::Forever(first, again, AT_ONCE), timeout).await;
        assert!(failure.starts_with("no answer from http://127.0.0.1:"), "{again:?}: {failure}");
    }
}

#[tokio::test]
async fn a_receiver_that_sends_its_answer_too_slowly_times_out() {
    let slow = Duration::from_millis(50);
    for (first, again) in
        [("", "HTTP/1.1 100 Continue\r\n\r\n"), ("HTTP/1.1 200 OK\r\nx: ", "y"), ("", "\r\n")]
    {
        let failure =
            failure(ReceiverReply::Forever(first, again, slow), Duration::from_secs(1)).await;
        assert!(failure.ends_with("within 1000 ms"), "{again:?}: {failure}");
    }
}

#[tokio::test]
async fn a_success_with_a_slow_body_is_a_success() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n";
    let receiver =
        Receiver::start(move |_, _| ReceiverReply::Forever(head, "x", Duration::from_millis(50)))
            .await;
    let shop = WorkerFixture::open().await;
    shop.publish(&shop.orders(1).await).await;
    let _worker = shop.worker(quick(), receiver.webhook());
    shop.until("completed", 1).await;
    until("the connection is closed", async || receiver.now() == 0).await;
}

#[tokio::test]
async fn sigterm_does_not_wait_for_a_receiver_that_never_answers() {
    let receiver = Receiver::start(|_, _| ReceiverReply::Hang).await;
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(20).await;
    shop.publish(&ids).await;
    let worker = shop
        .binary_with_webhook(&receiver.url())
        .env("HOLDFAST_LEASE_MS", "60000")
        .env("HOLDFAST_WEBHOOK_CONNECTIONS", "2")
        .env("HOLDFAST_WEBHOOK_TIMEOUT_MS", "300000")
        .env("HOLDFAST_WEBHOOK_SHUTDOWN_TIMEOUT_MS", "200")
        .env("HOLDFAST_SHUTDOWN_TIMEOUT_MS", "600000");
    let worker = shop.start(worker).await;
    until("some are sent", async || receiver.requests().len() == 2).await;
    worker.stop(PATIENCE).await.unwrap();
    let log = worker.log().unwrap();
    assert!(log.contains("handed back"), "{log}");
    assert_eq!(shop.count("pending").await, 20, "they are free for another worker at once");
}
