//! Orders that are sent to a receiver: the requests, and the meaning of its answers.

use std::{
    collections::HashSet,
    time::{Duration, Instant, SystemTime},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use holdfast_domain::{OrderId, OrderStatus};
use holdfast_store::Attribution;
use holdfast_telemetry::Registry;
use holdfast_worker::{WorkerSettings, webhook::Webhook};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    fixture::{PATIENCE, WorkerFixture, quick, until},
    receiver::{ReceivedRequest, Receiver, ReceiverReply, SECRET, settings},
};

const OTHER_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// An independent HMAC-SHA256 (RFC 2104), so that the worker is not compared with itself.
fn signature(secret: &str, received: &ReceivedRequest) -> String {
    let mut key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    key.resize(64, 0);
    let pad = |byte: u8| key.iter().map(|key| key ^ byte).collect::<Vec<_>>();
    let signed = format!("{}.{}.", received.id(), received.header("webhook-timestamp"));
    let inner = [pad(0x36), signed.into_bytes(), received.body.clone()].concat();
    let outer = [pad(0x5c), Sha256::digest(inner).to_vec()].concat();
    format!("v1,{}", BASE64_STANDARD.encode(Sha256::digest(outer)))
}

fn body(received: &ReceivedRequest) -> Value {
    serde_json::from_slice(&received.body).unwrap()
}

/// One published order, and a worker that sends it to this receiver.
async fn sent_to(receiver: &Receiver) -> (WorkerFixture, OrderId, holdfast_worker::Worker) {
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(1).await;
    shop.publish(&ids).await;
    let worker = shop.worker(quick(), receiver.webhook());
    (shop, ids[0], worker)
}

#[tokio::test]
async fn a_receiver_gets_the_whole_order_signed() {
    let receiver = Receiver::start(|_, _| ReceiverReply::Status(202)).await;
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(2).await;
    shop.sql(
        "UPDATE orders SET line_count = 3, customer_ref = 'Jürgen', metadata = '{\"gift\": [1.50]}', \
             created_at = '2026-01-31T12:00:00.123456Z' WHERE id = 1; \
         INSERT INTO order_lines VALUES (1, 3, 9, 4, 5), (1, 2, 8, 2, 1999)",
    )
    .await;
    shop.publish(&ids).await;
    let _worker = shop.worker(quick(), receiver.webhook());
    shop.until("completed", 2).await;
    shop.until_empty().await;

    let mut requests = receiver.requests();
    requests.sort_by_key(|request| request.id().to_owned());
    let [first, second] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!(first.line, "POST /orders HTTP/1.1");
    assert_eq!((first.id(), second.id()), ("order_1", "order_2"));
    assert_eq!(first.header("content-type"), "application/json");
    assert!(first.header("user-agent").starts_with("holdfast/"));
    assert_eq!(first.header("webhook-signature"), signature(SECRET, first));
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let sent: u64 = first.header("webhook-timestamp").parse().unwrap();
    assert!(now - sent < 60, "{sent}");
    assert_eq!(
        body(first),
        json!({
            "type": "order.accepted",
            "timestamp": "2026-01-31T12:00:00.123456Z",
            "data": {
                "id": 1,
                "items": [
                    { "product_id": 1, "quantity": 1, "unit_price": 1.0 },
                    { "product_id": 8, "quantity": 2, "unit_price": 19.99 },
                    { "product_id": 9, "quantity": 4, "unit_price": 0.05 },
                ],
                "customer_ref": "Jürgen",
                "metadata": { "gift": [1.5] },
                "created_at": "2026-01-31T12:00:00.123456Z",
            },
        })
    );
    let data = body(second)["data"].as_object().unwrap().clone();
    assert_eq!(data.keys().collect::<Vec<_>>(), ["created_at", "id", "items"]);
}

#[tokio::test]
async fn metadata_is_sent_byte_for_byte() {
    let sent = r#"{ "b" : 1.50, "a":[5e-324,123456789012345678901] , "b":2,"\u00e4":"\/" }"#;
    let receiver = Receiver::start(|_, _| ReceiverReply::Status(200)).await;
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(1).await;
    sqlx::query("UPDATE orders SET metadata = $1::jsonb, metadata_text = $1")
        .bind(sent)
        .execute(shop.store.pool())
        .await
        .unwrap();
    shop.publish(&ids).await;
    let _worker = shop.worker(quick(), receiver.webhook());
    shop.until("completed", 1).await;
    let body = String::from_utf8(receiver.requests()[0].body.clone()).unwrap();
    assert!(body.contains(&format!(r#""metadata":{sent},"#)), "{body}");
}

#[tokio::test]
async fn during_a_rotation_both_secrets_sign() {
    let receiver = Receiver::start(|_, _| ReceiverReply::Status(200)).await;
    let shop = WorkerFixture::open().await;
    shop.publish(&shop.orders(1).await).await;
    let mut settings = receiver.settings();
    settings.secrets = format!("{OTHER_SECRET} {SECRET}").parse().unwrap();
    let _worker = shop.worker(quick(), Webhook::new(settings, &Registry::default()).unwrap());
    shop.until("completed", 1).await;
    let request = &receiver.requests()[0];
    let both = [OTHER_SECRET, SECRET].map(|secret| signature(secret, request)).join(" ");
    assert_eq!(request.header("webhook-signature"), both);
}

#[tokio::test]
async fn repeats_have_the_same_id_and_body_and_leave_a_history() {
    let receiver =
        Receiver::start(|_, number| ReceiverReply::Status([500, 503, 200][number])).await;
    let (shop, id, _worker) = sent_to(&receiver).await;
    shop.until("completed", 1).await;
    let requests = receiver.requests();
    assert_eq!(requests.len(), 3);
    let distinct: HashSet<_> =
        requests.iter().map(|request| (request.id(), &request.body)).collect();
    assert_eq!(distinct.len(), 1);
    for request in &requests {
        assert_eq!(request.header("webhook-signature"), signature(SECRET, request));
    }
    let history: Vec<_> = shop
        .order(id)
        .await
        .history()
        .into_iter()
        .map(|step| (step.status.as_str(), step.detail.unwrap_or_default()))
        .collect();
    let step = |status, detail: &str| (status, detail.to_owned());
    assert_eq!(
        history,
        [
            step("pending", ""),
            step("processing", ""),
            step("pending", "the receiver answered 500 Internal Server Error"),
            step("processing", ""),
            step("pending", "the receiver answered 503 Service Unavailable"),
            step("processing", ""),
            step("completed", ""),
        ]
    );
}

#[tokio::test]
async fn an_order_that_the_receiver_refuses_fails_at_once() {
    for status in [400, 410, 422] {
        let receiver = Receiver::start(move |_, _| {
            ReceiverReply::Full(status, "", b"no such street".to_vec())
        })
        .await;
        let (shop, id, _worker) = sent_to(&receiver).await;
        shop.until("failed", 1).await;
        shop.until_empty().await;
        assert_eq!(receiver.requests().len(), 1, "{status}");
        let failure = shop.order(id).await.failure.unwrap();
        assert!(failure.starts_with(&format!("the receiver answered {status} ")), "{failure}");
        assert!(failure.ends_with(": no such street"), "{failure}");
    }
}

#[tokio::test]
async fn a_replayed_dead_letter_is_the_same_message_with_all_attempts_again() {
    let receiver =
        Receiver::start(|_, number| ReceiverReply::Status([422, 500, 500, 500, 200][number])).await;
    let (shop, id, _worker) = sent_to(&receiver).await;
    shop.until("failed", 1).await;
    let ordered = Attribution { by: "ada", note: None };
    let swept = shop.store.replay(&[id], ordered).await.unwrap().orders;
    shop.publish(&[swept[0].order_id]).await;
    shop.until("completed", 1).await;
    let requests = receiver.requests();
    assert_eq!(requests.len(), 5, "as many tries as are allowed, though one was before");
    let distinct: HashSet<_> =
        requests.iter().map(|request| (request.id(), &request.body)).collect();
    assert_eq!(distinct.len(), 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_is_reported_clearly() {
    let receiver = Receiver::start(|_, _| {
        ReceiverReply::Full(302, "location: /elsewhere\r\n", b"moved".to_vec())
    })
    .await;
    let (shop, id, _worker) = sent_to(&receiver).await;
    until("it is tried again", async || receiver.requests().len() > 3).await;
    for request in receiver.requests() {
        assert_eq!(request.line, "POST /orders HTTP/1.1");
    }
    let order = shop.order(id).await;
    assert_eq!(
        order.failure.as_deref(),
        Some("the receiver answered 302 Found, and redirects are not followed: /elsewhere")
    );
    assert!(!matches!(order.status, OrderStatus::Completed | OrderStatus::Failed));
}

#[tokio::test]
async fn invalid_bytes_do_not_count_as_an_answer() {
    let huge_head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let nonsense: [&[u8]; 7] = [
        b"",
        b"\0\x01\x02\xff\xfe",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n",
        huge_head.as_bytes(),
    ];
    let nonsense: Vec<_> = nonsense.iter().map(|bytes| bytes.to_vec()).collect();
    let count = nonsense.len();
    let receiver = Receiver::start(move |_, number| match nonsense.get(number) {
        Some(bytes) => ReceiverReply::Raw(bytes.clone()),
        None => ReceiverReply::Status(200),
    })
    .await;
    let (shop, id, _worker) = sent_to(&receiver).await;
    shop.until("completed", 1).await;
    assert_eq!(receiver.requests().len(), count + 1, "each was a failure");
    let history = shop.order(id).await.history();
    let failures: Vec<_> = history.into_iter().filter_map(|step| step.detail).collect();
    assert_eq!(failures.len(), count);
    for failure in failures {
        assert!(failure.starts_with("no answer from http://127.0.0.1:"), "{failure}");
        assert!(!failure.contains("/orders"), "a path may hold a token: {failure}");
    }
}

#[tokio::test]
async fn a_huge_or_incomplete_body_changes_nothing() {
    let receiver = Receiver::start(|request, _| match request.id() {
        "order_1" => ReceiverReply::Endless(200),
        "order_2" => ReceiverReply::Full(200, "", vec![b'x'; 10 << 20]),
        "order_3" => {
            ReceiverReply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nshort".to_vec())
        }
        "order_4" => ReceiverReply::Endless(422),
        _ => ReceiverReply::Raw(
            b"HTTP/1.1 422 No\r\ncontent-length: 99\r\n\r\n\x1b[31mno\0\xff".to_vec(),
        ),
    })
    .await;
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(5).await;
    shop.publish(&ids).await;
    let begun = Instant::now();
    let _worker = shop.worker(quick(), receiver.webhook());
    shop.until("completed", 3).await;
    shop.until("failed", 2).await;
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    assert_eq!(receiver.requests().len(), 5);
    let failure = shop.order(ids[3]).await.failure.unwrap();
    assert!(failure.ends_with("xxx") && failure.len() < 300, "{failure}");
    let failure = shop.order(ids[4]).await.failure.unwrap();
    assert!(failure.ends_with(": [31mno \u{fffd}"), "{failure}");
}

#[tokio::test]
async fn retry_after_is_respected_and_limited() {
    let receiver = Receiver::start(|_, number| match number {
        0 => ReceiverReply::Full(429, "retry-after: 1\r\n", Vec::new()),
        1 => ReceiverReply::Full(503, "retry-after: 86400\r\n", Vec::new()),
        _ => ReceiverReply::Status(200),
    })
    .await;
    let shop = WorkerFixture::open().await;
    shop.publish(&shop.orders(1).await).await;
    let mut settings = receiver.settings();
    settings.retry_after_max = Duration::from_millis(1500);
    let _worker = shop.worker(quick(), Webhook::new(settings, &Registry::default()).unwrap());
    shop.until("completed", 1).await;
    let times: Vec<_> = receiver.requests().iter().map(|request| request.at).collect();
    let waits: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits[0] >= Duration::from_secs(1) && waits[0] < PATIENCE / 2, "{waits:?}");
    assert!(waits[1] >= Duration::from_millis(1500) && waits[1] < PATIENCE / 2, "{waits:?}");
}

#[tokio::test]
async fn connections_are_limited_and_reused() {
    let receiver =
        Receiver::start(|_, _| ReceiverReply::Slow(Duration::from_millis(20), 200)).await;
    let shop = WorkerFixture::open().await;
    shop.publish(&shop.orders(100).await).await;
    let mut settings = receiver.settings();
    settings.connections = 4;
    let _worker = shop.worker(quick(), Webhook::new(settings, &Registry::default()).unwrap());
    shop.until("completed", 100).await;
    assert_eq!(receiver.most_at_once(), 4);
    assert!(receiver.connections() < 20, "{}", receiver.connections());
    assert_eq!(receiver.requests().len(), 100, "each order was sent once");
}

#[tokio::test]
async fn a_name_that_resolves_to_a_private_address_is_not_connected_to() {
    let receiver = Receiver::start(|_, _| ReceiverReply::Status(200)).await;
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(1).await;
    shop.publish(&ids).await;
    let mut settings = settings(&format!("https://localhost:{}/", receiver.address.port()));
    settings.allow_private = false;
    let _worker = shop.worker(quick(), Webhook::new(settings, &Registry::default()).unwrap());
    until("it was attempted", async || shop.order(ids[0]).await.failure.is_some()).await;
    let failure = shop.order(ids[0]).await.failure.unwrap();
    assert!(failure.contains("HOLDFAST_WEBHOOK_ALLOW_PRIVATE"), "{failure}");
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_private_address_is_refused_before_anything_is_sent() {
    for url in ["https://127.0.0.1/", "https://[::1]/", "https://10.0.0.1/", "http://example.com/"]
    {
        let mut settings = settings(url);
        settings.allow_private = false;
        let error = Webhook::new(settings, &Registry::default()).err().expect(url);
        assert!(error.to_string().starts_with("HOLDFAST_WEBHOOK_URL must"), "{error}");
    }
}

#[tokio::test]
async fn a_worker_killed_during_a_request_causes_a_repeat_with_the_same_id() {
    let receiver = Receiver::start(|_, number| match number {
        0 => ReceiverReply::Hang,
        _ => ReceiverReply::Status(200),
    })
    .await;
    let shop = WorkerFixture::open().await;
    shop.publish(&shop.orders(1).await).await;
    let binary = || shop.binary_with_webhook(&receiver.url());
    let victim = shop.start(binary()).await;
    until("it is sent", async || receiver.requests().len() == 1).await;
    victim.kill9().await.unwrap();
    let heir = shop.start(binary()).await;
    shop.until("completed", 1).await;
    let ids: Vec<_> = receiver.requests().iter().map(|request| request.id().to_owned()).collect();
    assert_eq!(ids, ["order_1", "order_1"]);
    let log = heir.log().unwrap();
    assert!(log.contains("webhook to http://127.0.0.1") && !log.contains("whsec_"), "{log}");
}

#[tokio::test]
async fn the_receiver_continues_the_trace_of_the_order() {
    let receiver = Receiver::start(|_, _| ReceiverReply::Status(200)).await;
    let shop = WorkerFixture::open().await;
    let worker = shop
        .binary_with_webhook(&receiver.url())
        // Traces that cannot be exported delay nothing.
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
    let _worker = shop.start(worker).await;
    let ids = shop.orders(1).await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let context = format!("00-{trace}-b7ad6b7169203331-01");
    let job = holdfast_queue::Job { order_id: ids[0].0, trace_context: Some(context.clone()) };
    shop.queue.publish_many(&[job]).await.unwrap();
    shop.until("completed", 1).await;
    let requests = receiver.requests();
    let sent = requests[0].header("traceparent");
    assert!(sent.starts_with(&format!("00-{trace}-")) && sent != context, "{sent:?}");
}

#[tokio::test]
async fn an_order_older_than_the_retry_period_fails_after_its_attempts() {
    let receiver = Receiver::start(|_, _| ReceiverReply::Status(500)).await;
    let shop = WorkerFixture::open().await;
    let ids = shop.orders(1).await;
    shop.publish(&ids).await;
    let impatient = WorkerSettings { retry_for: Duration::ZERO, ..quick() };
    let _worker = shop.worker(impatient, receiver.webhook());
    shop.until("failed", 1).await;
    assert_eq!(receiver.requests().len(), 3);
    assert_eq!(
        shop.order(ids[0]).await.failure.unwrap(),
        "gave up after 3 attempts: the receiver answered 500 Internal Server Error"
    );
}
