//! The state after each kind of attempt: whether the order may be fulfilled, so that it cannot be
//! cancelled.

use std::time::Duration;

use holdfast_domain::{Order, OrderStatus};
use holdfast_store::{Attribution, fulfilment::Taken};
use holdfast_telemetry::Registry;
use holdfast_worker::{FulfilError, Fulfilment, OrderToFulfil, Simulated, webhook::Webhook};
use tokio::net::TcpListener;

use crate::{
    fixture::{PATIENCE, WorkerFixture, once, quick, until},
    receiver::{Receiver, ReceiverReply, settings},
};

async fn tried<F: Fulfilment>(fulfilment: F) -> Order {
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(1).await;
    shop.publish(&ids).await;
    let _worker = shop.worker(once(), fulfilment);
    shop.tried(ids[0]).await
}

async fn answered(reply: ReceiverReply) -> Order {
    let hangs = matches!(reply, ReceiverReply::Hang);
    let receiver = Receiver::start(move |_, _| reply.clone()).await;
    let mut settings = receiver.settings();
    // On a busy machine, an answer may take long.
    settings.timeout = if hangs { Duration::from_millis(500) } else { PATIENCE };
    tried(Webhook::new(settings, &Registry::default()).unwrap()).await
}

#[tokio::test]
async fn an_order_without_a_clear_answer_may_be_fulfilled() {
    let replies = [
        // A timeout, a broken connection, and an invalid answer: all after the receiver has read the order.
        ReceiverReply::Hang,
        ReceiverReply::Raw(Vec::new()),
        ReceiverReply::Raw(b"HTTP/1.1 2".to_vec()),
        ReceiverReply::Raw(b"SSH-2.0-OpenSSH\r\n".to_vec()),
        ReceiverReply::Status(302),
        ReceiverReply::Status(408),
        ReceiverReply::Status(409),
        ReceiverReply::Status(425),
        ReceiverReply::Status(500),
        ReceiverReply::Status(503),
        ReceiverReply::Status(504),
    ];
    for reply in replies {
        let order = answered(reply.clone()).await;
        assert_eq!(order.status, OrderStatus::Pending, "{reply:?}");
        assert!(order.may_be_fulfilled, "{reply:?}: {:?}", order.failure);
    }
}

#[tokio::test]
async fn an_order_that_the_receiver_has_refused_was_not_accepted() {
    for (status, stands) in [
        (401, OrderStatus::Pending),
        (403, OrderStatus::Pending),
        (404, OrderStatus::Pending),
        (429, OrderStatus::Pending),
        (400, OrderStatus::Failed),
        (410, OrderStatus::Failed),
        (422, OrderStatus::Failed),
    ] {
        let order = answered(ReceiverReply::Status(status)).await;
        assert_eq!((order.status, order.may_be_fulfilled), (stands, false), "{status}");
    }
}

#[tokio::test]
async fn an_order_that_was_never_sent_was_not_accepted() {
    // Nothing listens on the port.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    // A server that accepts the connection and sends nothing, so the TLS handshake does not complete.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let targets = [
        format!("http://{port}/"),
        format!("https://{}/", mute.local_addr().unwrap()),
        "http://no-such-host.invalid/".to_owned(),
    ];
    for target in targets {
        let mut settings = settings(&target);
        settings.timeout = Duration::from_millis(500);
        let order = tried(Webhook::new(settings, &Registry::default()).unwrap()).await;
        assert_eq!(order.status, OrderStatus::Pending, "{target}");
        assert!(!order.may_be_fulfilled, "{target}: {:?}", order.failure);
    }
}

#[tokio::test]
async fn an_order_that_was_postponed_while_the_receiver_is_down_was_not_accepted() {
    let receiver =
        Receiver::start(|_, _| ReceiverReply::Slow(Duration::from_millis(200), 500)).await;
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(20).await;
    shop.publish(&ids).await;
    let mut settings = receiver.settings();
    settings.connections = 10;
    settings.pause_base = Duration::from_hours(1);
    settings.retry_after_max = Duration::from_hours(1);
    let _worker = shop.worker(once(), Webhook::new(settings, &Registry::default()).unwrap());
    let mut sent = 0;
    for id in &ids {
        let order = shop.tried(*id).await;
        let held_back = order.failure.as_deref().is_some_and(|why| why.starts_with("not sent"));
        assert_eq!(order.may_be_fulfilled, !held_back, "{:?}", order.failure);
        sent += usize::from(!held_back);
    }
    assert_eq!(receiver.requests().len(), sent);
    assert!((1..20).contains(&sent), "{sent}");
}

#[tokio::test]
async fn a_worker_that_dies_leaves_an_order_that_may_be_fulfilled() {
    let receiver = Receiver::start(|_, _| ReceiverReply::Hang).await;
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(1).await;
    shop.publish(&ids).await;
    let worker = shop.binary_with_webhook(&receiver.url());
    let victim = shop.start(worker).await;
    until("it is sent", async || receiver.requests().len() == 1).await;
    victim.kill9().await.unwrap();
    // Its lease expires, and the sweep makes it pending again.
    let sweep = holdfast_store::fulfilment::SweepRule {
        waiting: Duration::ZERO,
        lost_after: Duration::ZERO,
        lost_before: None,
        horizon: Duration::from_hours(1),
        limit: 10,
    };
    until("its lease has expired", async || {
        shop.store.sweep(sweep, None).await.unwrap();
        shop.order(ids[0]).await.status == OrderStatus::Pending
    })
    .await;
    assert!(shop.order(ids[0]).await.may_be_fulfilled);
}

#[tokio::test]
async fn an_order_that_is_handed_back_may_be_fulfilled_if_it_was_sent() {
    let receiver = Receiver::start(|_, _| ReceiverReply::Hang).await;
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(3).await;
    shop.publish(&ids).await;
    let mut settings = receiver.settings();
    // The others wait for their turn.
    settings.connections = 1;
    let worker = shop.worker(once(), Webhook::new(settings, &Registry::default()).unwrap());
    shop.until("processing", 2).await;
    until("one is sent", async || receiver.requests().len() == 1).await;
    worker.shutdown(Duration::ZERO).await;
    shop.until("pending", 3).await;
    let mut maybe = 0;
    for id in ids {
        maybe += usize::from(shop.order(id).await.may_be_fulfilled);
    }
    assert_eq!((maybe, receiver.requests().len()), (1, 1));
}

#[tokio::test]
async fn an_order_that_may_be_fulfilled_stays_so_after_a_refused_attempt_or_a_replay() {
    let receiver = Receiver::start(|_, number| match number {
        0 => ReceiverReply::Raw(Vec::new()),
        _ => ReceiverReply::Status(422),
    })
    .await;
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(1).await;
    shop.publish(&ids).await;
    let worker = shop.worker(quick(), receiver.webhook());
    shop.until("failed", 1).await;
    worker.shutdown(PATIENCE).await;
    assert!(shop.order(ids[0]).await.may_be_fulfilled);
    let replayed = shop.store.replay(&ids, Attribution { by: "ada", note: None }).await.unwrap();
    assert_eq!(replayed.orders.len(), 1);
    let order = shop.order(ids[0]).await;
    assert_eq!((order.status, order.may_be_fulfilled), (OrderStatus::Pending, true));
}

#[tokio::test]
async fn a_failed_simulated_attempt_was_not_accepted() {
    let order = tried(Simulated { duration: Duration::ZERO, fail_percent: 100 }).await;
    assert_eq!((order.status, order.may_be_fulfilled), (OrderStatus::Pending, false));
}

/// Does not report the moment of sending, like a fulfilment from before that existed.
struct Silent;

impl Fulfilment for Silent {
    async fn fulfil(&self, _work: OrderToFulfil) -> Result<(), FulfilError> {
        Err(FulfilError::Retry("no".to_owned()))
    }
}

#[tokio::test]
async fn a_fulfilment_without_an_answer_may_have_accepted_the_order() {
    assert!(tried(Silent).await.may_be_fulfilled);
}

#[tokio::test]
async fn an_attempt_of_an_older_release_may_have_been_accepted() {
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(2).await;
    shop.sql(
        "UPDATE orders SET attempt = 3, handed_back = 3, not_taken = NULL WHERE id = 1; \
         UPDATE orders SET attempt = 2, not_taken = 1 WHERE id = 2",
    )
    .await;
    for id in &ids {
        assert!(shop.order(*id).await.may_be_fulfilled);
    }
    // A later refusal does not change that.
    let claims = shop.store.claim(&ids, Duration::from_mins(1)).await.unwrap();
    let refused: Vec<_> = claims
        .iter()
        .map(|claim| holdfast_store::fulfilment::EndedClaim {
            order_id: claim.order_id,
            attempt: claim.attempt,
            verdict: holdfast_store::fulfilment::AttemptResult::HandedBack,
            taken: Taken::Never,
        })
        .collect();
    assert_eq!(shop.store.finish(&refused).await.unwrap().done.len(), 2);
    for id in &ids {
        assert!(shop.order(*id).await.may_be_fulfilled);
    }
}
