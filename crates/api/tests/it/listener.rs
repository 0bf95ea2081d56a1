//! Slow clients, idle clients, and too many clients.

use std::time::{Duration, Instant};

use holdfast_domain::ProductId;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::server::{PATIENT, Server};

const SHORT: Duration = Duration::from_secs(30);
const HEALTH: &[u8] = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Opens one more connection that has sent these bytes.
async fn with(server: &Server, request: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(&server.api.address).await.unwrap();
    stream.write_all(request).await.unwrap();
    stream
}

/// Reads the next bytes.
async fn next(stream: &mut TcpStream) -> String {
    let mut text = vec![0; 16 * 1024];
    let read = tokio::time::timeout(SHORT, stream.read(&mut text)).await.unwrap().unwrap_or(0);
    String::from_utf8_lossy(&text[..read]).into_owned()
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut text = Vec::new();
    tokio::time::timeout(SHORT, stream.read_to_end(&mut text)).await.is_ok()
}

/// Checks that a new client gets this status.
async fn status(server: &Server) -> Vec<u16> {
    let request = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    server.api.raw(request, SHORT).await.statuses()
}

#[tokio::test]
async fn a_slow_client_is_disconnected_in_time() {
    let server = Server::with(&[
        ("HOLDFAST_BODY_TIMEOUT_MS", "300"),
        ("HOLDFAST_HEADER_TIMEOUT_MS", "400"),
        ("HOLDFAST_IDLE_TIMEOUT_MS", "500"),
    ])
    .await;
    let body = "POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                content-length: 20\r\n\r\n{\"product_id\":";
    for slow in [body, "POST /orders HTTP/1.1\r\nhost: localhost\r\nx-slow", "G", "\r\n"] {
        let answer = server.api.raw(slow.as_bytes(), SHORT).await;
        assert_eq!(answer.statuses(), [408], "{slow}: {}", answer.text);
        assert!(answer.text.contains("/problems/slow-request") && answer.closed);
    }
    // Sending one byte at a time makes no difference.
    let mut dripping = with(&server, b"GET / HTTP/1.1\r\nx: ").await;
    let begun = Instant::now();
    while dripping.write_all(b"x").await.is_ok() {
        assert!(begun.elapsed() < SHORT, "it may go on for ever");
        // A slow client is the subject.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let never_used = server.api.raw(b"", SHORT).await;
    assert!(never_used.closed && never_used.text.is_empty(), "{}", never_used.text);
    let used = server.api.raw(HEALTH, SHORT).await;
    assert!(used.closed && used.statuses() == [200], "{}", used.text);
}

#[tokio::test]
async fn a_body_below_the_minimum_rate_ends_before_its_time_limit() {
    let server = Server::with(&[
        ("HOLDFAST_BODY_TIMEOUT_MS", "600000"),
        ("HOLDFAST_MIN_BYTES_PER_SECOND", "100000"),
    ])
    .await;
    let mut stream = with(
        &server,
        b"POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
          content-length: 100000\r\n\r\n{",
    )
    .await;
    assert!(next(&mut stream).await.starts_with("HTTP/1.1 408"));
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_disconnected() {
    let server = Server::with(&[
        ("HOLDFAST_WRITE_TIMEOUT_MS", "1500"),
        ("HOLDFAST_MIN_BYTES_PER_SECOND", "1000000"),
    ])
    .await;
    let large = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(50);
    let open = async || server.metric("holdfast_http_connections").await;
    let before = open().await;
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(with(&server, large.as_bytes()).await);
    }
    server.until("they are there", async || open().await >= before.max(1) + 9).await;
    server.until("they are gone", async || open().await <= before.max(1)).await;
    // Clients that read a little now and then are treated the same.
    let mut dripping = with(&server, large.as_bytes()).await;
    let mut some = [0; 512];
    let begun = Instant::now();
    while matches!(dripping.read(&mut some).await, Ok(1..)) {
        assert!(begun.elapsed() < SHORT, "it may go on for ever");
        // A slow client is the subject.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A client that reads gets everything.
    let mut reading = with(&server, large.as_bytes()).await;
    let mut bytes = 0;
    let mut buffer = vec![0; 1 << 16];
    while bytes < 50 << 20 {
        match tokio::time::timeout(SHORT, reading.read(&mut buffer)).await.unwrap() {
            Ok(read) if read > 0 => bytes += read,
            other => panic!("after {bytes} bytes: {other:?}"),
        }
    }
}

#[tokio::test]
async fn idle_connections_make_room_for_new_ones() {
    let server = Server::with(&[("HOLDFAST_MAX_CONNECTIONS", "8")]).await;
    let mut idle = Vec::new();
    for round in 0..30 {
        let mut stream = with(&server, HEALTH).await;
        let answer = next(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{round}: {answer}");
        idle.push(stream);
        // An idle connection is kept for a moment, so time must pass.
        tokio::time::sleep(Duration::from_millis(120)).await;
    }
    assert!(is_closed(&mut idle[0]).await, "the longest idle are closed");
    assert_eq!(status(&server).await, [200]);
}

#[tokio::test]
async fn unfinished_requests_make_room_for_new_ones() {
    let server = Server::with(&[("HOLDFAST_MAX_CONNECTIONS", "8")]).await;
    let mut unfinished = Vec::new();
    for _ in 0..12 {
        unfinished.push(with(&server, b"POST /orders HTTP/1.1\r\nhost: localhost\r\nx").await);
    }
    server.until("a new client gets in", async || status(&server).await == [200]).await;
    server
        .until("one that had to go was told", async || {
            let mut text = [0; 64];
            for stream in &mut unfinished {
                let read = stream.read(&mut text);
                let read = tokio::time::timeout(Duration::from_millis(10), read).await;
                if matches!(read, Ok(Ok(12..)) if text.starts_with(b"HTTP/1.1 503")) {
                    return true;
                }
            }
            false
        })
        .await;
}

#[tokio::test]
async fn requests_in_progress_are_not_interrupted_for_others() {
    let settings = [&PATIENT[..], &[("HOLDFAST_MAX_CONNECTIONS", "2")]].concat();
    let server = Server::with(&settings).await;
    // The client is gone by then, and so is its connection.
    let product = json!({ "name": "Espresso machine", "price": 1, "stock": 10 });
    let once = crate::client::Client::new(&server.api.address);
    let product = once.post("/products", &product).await.json()["id"].as_i64().unwrap();
    drop(once);
    server
        .until("its connection is gone", async || {
            server.metric("holdfast_http_connections").await == 0
        })
        .await;
    let locked = server.store.lock_product(ProductId(product)).await.unwrap().unwrap();
    let order = json!({ "product_id": product, "quantity": 1 }).to_string();
    let request = format!(
        "POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{order}",
        order.len()
    );
    let mut working =
        [with(&server, request.as_bytes()).await, with(&server, request.as_bytes()).await];
    server
        .until("both are in flight", async || {
            server.metric("holdfast_http_requests_in_flight").await == 2
        })
        .await;
    let refused = server.api.raw(HEALTH, SHORT).await;
    assert_eq!(refused.statuses(), [503], "{}", refused.text);
    let text = refused.text.to_lowercase();
    assert!(text.contains("retry-after: 1") && text.contains("/problems/overloaded"), "{text}");
    assert!(refused.closed && server.metric("holdfast_http_connections_refused_total").await >= 1);
    drop(locked);
    for stream in &mut working {
        assert!(next(stream).await.starts_with("HTTP/1.1 201"));
    }
    server.until("there is room again", async || status(&server).await == [200]).await;
}

#[tokio::test]
async fn each_address_has_a_connection_limit() {
    let server = Server::with(&[
        ("HOLDFAST_MAX_CONNECTIONS_PER_ADDRESS", "3"),
        ("HOLDFAST_TRUSTED_PROXIES", "10.0.0.0/8"),
    ])
    .await;
    let mut held = Vec::new();
    let refused = loop {
        let mut stream = with(&server, HEALTH).await;
        let answer = next(&mut stream).await;
        if !answer.starts_with("HTTP/1.1 200") {
            break answer;
        }
        held.push(stream);
        assert!(held.len() <= 3);
    };
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    assert!(refused.contains("/problems/too-many-connections"), "{refused}");
    drop(held);
    server.until("they are gone", async || status(&server).await == [200]).await;
}

#[tokio::test]
async fn each_client_of_a_trusted_proxy_has_a_request_limit() {
    let limit = [
        ("HOLDFAST_MAX_CONNECTIONS_PER_ADDRESS", "1"),
        ("HOLDFAST_TRUSTED_PROXIES", "127.0.0.0/8"),
    ];
    let server = Server::with(&[&PATIENT[..], &limit].concat()).await;
    let product = server.product(10).await;
    let locked = server.store.lock_product(ProductId(product)).await.unwrap().unwrap();
    let order = json!({ "product_id": product, "quantity": 1 }).to_string();
    let from = |client: &'static str| {
        let (api, order) = (server.api.clone(), order.clone());
        let headers = [("content-type", "application/json"), ("x-forwarded-for", client)];
        async move { api.send(reqwest::Method::POST, "/orders", &headers, order).await }
    };
    let waiting = tokio::spawn(from("192.0.2.1"));
    server
        .until("it is in flight", async || {
            server.metric("holdfast_http_requests_in_flight").await == 1
        })
        .await;
    let second = from("203.0.113.9, 192.0.2.1").await;
    assert_eq!(
        (second.status, &second.problem()["type"]),
        (429, &json!("/problems/too-many-connections"))
    );
    let other = tokio::spawn(from("192.0.2.1, 192.0.2.2"));
    server
        .until("another client's is in flight", async || {
            server.metric("holdfast_http_requests_in_flight").await == 2
        })
        .await;
    drop(locked);
    assert_eq!(waiting.await.unwrap().status, 201);
    assert_eq!(other.await.unwrap().status, 201);
}
