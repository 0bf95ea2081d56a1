//! Single orders that fail do not delay the others, while the receiver fulfils all others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use holdfast_domain::OrderId;
use holdfast_telemetry::Registry;
use holdfast_worker::webhook::{Webhook, WebhookSettings};

use crate::{
    fixture::{WorkerFixture, quick, until},
    receiver::{ReceivedRequest, Receiver, ReceiverReply},
};

/// Far longer than a test waits.
const FOR_EVER: Duration = Duration::from_hours(1);

fn number(request: &ReceivedRequest) -> usize {
    request.id().strip_prefix("order_").unwrap().parse().unwrap()
}

/// Answers orders with a number in this range like this, and fulfils all others.
async fn except(range: std::ops::RangeInclusive<usize>, reply: ReceiverReply) -> Receiver {
    Receiver::start(move |request, _| {
        if range.contains(&number(request)) { reply.clone() } else { ReceiverReply::Status(200) }
    })
    .await
}

fn webhook(settings: WebhookSettings) -> Webhook {
    Webhook::new(settings, &Registry::default()).unwrap()
}

async fn attempts(shop: &WorkerFixture, ids: &[OrderId]) -> i64 {
    let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
    sqlx::query_scalar("SELECT sum(attempt) FROM orders WHERE id = ANY ($1)")
        .bind(ids)
        .fetch_one(shop.store.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn orders_that_are_never_answered_do_not_fill_the_connections() {
    let receiver = except(2..=61, ReceiverReply::Hang).await;
    let shop = WorkerFixture::open().await;
    // No request reaches its time limit during the test.
    let settings = WebhookSettings { timeout: FOR_EVER, ..receiver.settings() };
    let _worker = shop.worker(quick(), webhook(settings));
    shop.publish(&shop.orders(1).await).await;
    shop.until("completed", 1).await;
    shop.publish(&shop.orders(70).await).await;
    shop.until("completed", 11).await;
}

#[tokio::test]
async fn a_worker_that_has_seen_no_answer_yet_finds_the_orders_behind_those_that_hang() {
    let receiver = except(1..=30, ReceiverReply::Hang).await;
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(40).await;
    let settings = WebhookSettings { timeout: Duration::from_secs(3), ..receiver.settings() };
    shop.publish(&ids).await;
    let _worker = shop.worker(quick(), webhook(settings));
    shop.until("completed", 10).await;
}

#[tokio::test]
async fn orders_that_fail_again_and_again_pause_nothing_for_the_others() {
    let receiver = except(1..=10, ReceiverReply::Status(500)).await;
    let shop = WorkerFixture::open().await;
    let failing = shop.orders(10).await;
    // A pause would not end during the test.
    let settings =
        WebhookSettings { pause_base: FOR_EVER, retry_after_max: FOR_EVER, ..receiver.settings() };
    let _worker = shop.worker(quick(), webhook(settings));
    shop.publish(&failing).await;
    until("all have been tried, and again", async || attempts(&shop, &failing).await > 30).await;
    for done in 1..=20 {
        shop.publish(&shop.orders(1).await).await;
        shop.until("completed", done).await;
    }
}

#[tokio::test]
async fn an_order_that_fails_alone_becomes_a_dead_letter() {
    let receiver = except(1..=3, ReceiverReply::Status(500)).await;
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(3).await;
    let _worker = shop.worker(quick(), receiver.webhook());
    shop.publish(&ids).await;
    until("they have failed", async || {
        shop.publish(&shop.orders(5).await).await;
        shop.count("failed").await == 3
    })
    .await;
    let failure = shop.order(ids[0]).await.failure.unwrap();
    assert!(failure.starts_with("gave up after 3 attempts"), "{failure}");
}

#[tokio::test]
async fn no_order_becomes_a_dead_letter_while_most_of_them_fail() {
    let up = Arc::new(AtomicBool::new(false));
    let answers = Arc::clone(&up);
    let receiver = Receiver::start(move |_, number| {
        let lucky = number.is_multiple_of(10) || answers.load(Ordering::SeqCst);
        ReceiverReply::Status(if lucky { 200 } else { 500 })
    })
    .await;
    let shop = WorkerFixture::open().await;
    shop.publish(&shop.orders(300).await).await;
    let _worker = shop.worker(quick(), receiver.webhook());
    until("all have been sent several times", async || receiver.requests().len() > 400).await;
    assert_eq!(shop.count("failed").await, 0);
    up.store(true, Ordering::SeqCst);
    shop.until("completed", 300).await;
}
