//! Clients that try to use up the memory, the connections or the file handles of the server, and
//! clients that order in the meantime.
//!
//! With `TEST_FLOOD=full`, the floods have the sizes of `docs/security.md`, and use the binary in
//! `TEST_FLOOD_BINARY`, which runs in the control group of the folder in `TEST_FLOOD_CGROUP`.

mod measured;
mod memory;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use measured::{Scale, flood, start};
use serde_json::json;
use sqlx::{PgPool, Postgres, Transaction};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::server::{BINARY, Server};

/// Sends as much as the server accepts, and stays connected until the server closes.
async fn send_and_stay(address: String, bytes: Arc<[u8]>, sent: Arc<AtomicUsize>, drip: u8) {
    let Ok(mut stream) = TcpStream::connect(address).await else { return };
    for part in bytes.chunks(16 * 1024) {
        if stream.write_all(part).await.is_err() {
            return;
        }
        sent.fetch_add(part.len(), Ordering::Relaxed);
    }
    while stream.write_all(&[drip]).await.is_ok() {
        let mut answer = [0; 1024];
        let second = Duration::from_secs(1);
        if let Ok(Ok(_)) = tokio::time::timeout(second, stream.read(&mut answer)).await {
            return;
        }
    }
}

async fn unfinished_heads(bytes: usize, name: &str) {
    let scale = Scale::chosen();
    let server = start(&scale.settings(), None).await;
    let head = format!("GET /orders HTTP/1.1\r\nhost: localhost\r\nx: {}", "x".repeat(bytes));
    let head: Arc<[u8]> = head.into_bytes().into();
    let seen = flood(&server, name, (scale.heads, scale.time), |address, sent| {
        send_and_stay(address, Arc::clone(&head), sent, b'x')
    });
    seen.await.check(&scale);
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_heads_over_the_limit_cost_little_and_block_no_others() {
    unfinished_heads(64 * 1024, "unfinished heads of 64 KiB").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_heads_of_the_largest_size_cost_little_and_block_no_others() {
    unfinished_heads(16_000, "unfinished heads of 16 KiB").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_bodies_stay_within_their_budget_and_block_no_others() {
    let scale = Scale::chosen();
    let server = start(&scale.settings(), None).await;
    let request = format!(
        "POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: 1048576\r\n\r\n{{\"metadata\":\"{}",
        "x".repeat(1_040_000)
    );
    let request: Arc<[u8]> = request.into_bytes().into();
    let seen =
        flood(&server, "slow bodies of 1 MiB", (scale.bodies, scale.time), |address, sent| {
            send_and_stay(address, Arc::clone(&request), sent, b'x')
        });
    seen.await.check(&scale);
}

/// Locks the row of a product until dropped.
async fn lock(server: &Server, product: i64) -> Transaction<'static, Postgres> {
    let database = PgPool::connect(&server.database_url).await.unwrap();
    let mut lock = database.begin().await.unwrap();
    let row = sqlx::query("SELECT FROM products WHERE id = $1 FOR UPDATE").bind(product);
    row.execute(&mut *lock).await.unwrap();
    lock
}

/// Sends requests, each after the answer to the previous one.
async fn ask_again_and_again(address: String, request: Arc<[u8]>, sent: Arc<AtomicUsize>) {
    let Ok(mut stream) = TcpStream::connect(address).await else { return };
    let mut answer = vec![0; 64 * 1024];
    while stream.write_all(&request).await.is_ok() {
        sent.fetch_add(request.len(), Ordering::Relaxed);
        if !matches!(stream.read(&mut answer).await, Ok(1..)) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn complete_requests_that_wait_stay_within_their_budget_and_block_no_others() {
    let scale = Scale::chosen();
    let server = start(&scale.settings(), None).await;
    let locked = server.product(1_000_000).await;
    let lock = lock(&server, locked).await;
    let order =
        json!({ "product_id": locked, "quantity": 1, "metadata": { "a": "x".repeat(4000) } });
    let body = format!("{:8000}", order.to_string());
    let head = format!(
        "POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n{}\r\n",
        body.len(),
        format!("x: {}\r\n", "x".repeat(165)).repeat(90)
    );
    let request: Arc<[u8]> = format!("{head}{body}").into_bytes().into();
    let name = "complete requests with heads of 16 KiB and bodies of 8 KiB";
    let seen = flood(&server, name, (scale.complete, scale.time), |address, sent| {
        ask_again_and_again(address, Arc::clone(&request), sent)
    });
    seen.await.check(&scale);
    lock.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_more_than_is_read_costs_little_memory_of_the_kernel() {
    let server = start(&[], None).await;
    let locked = server.product(1).await;
    let lock = lock(&server, locked).await;
    let order = json!({ "product_id": locked, "quantity": 1 }).to_string();
    let request = format!(
        "POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{order}",
        order.len()
    );
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(4096).unwrap();
    let stream = socket.connect(server.api.address.parse().unwrap()).await.unwrap();
    let mut sent = 0;
    // Until the server stops reading for a while.
    while let Ok(Ok(())) = tokio::time::timeout(Duration::from_millis(500), stream.writable()).await
    {
        match stream.try_write(request.as_bytes()) {
            Ok(bytes) => sent += bytes,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    // The server reads 16 KiB, and a few are buffered on the client's side.
    assert!(sent < 64 * 1024, "{sent}");
    lock.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_never_read_stay_within_their_budget_and_block_no_others() {
    let scale = Scale::chosen();
    let server = start(&scale.settings(), None).await;
    let name = "n".repeat(200);
    for _ in 0..1000 {
        let product = json!({ "name": name, "price": 1, "stock": 1 });
        assert_eq!(server.api.post("/products", &product).await.status, 201);
    }
    let requests = "GET /products?limit=1000 HTTP/1.1\r\nhost: localhost\r\n\r\n\
                    GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: localhost\r\n\r\n"
        .repeat(50);
    let requests: Arc<[u8]> = requests.into_bytes().into();
    let seen =
        flood(&server, "clients that never read", (scale.silent, scale.time), |address, sent| {
            let requests = Arc::clone(&requests);
            async move {
                let Ok(mut stream) = TcpStream::connect(address).await else { return };
                if stream.write_all(&requests).await.is_ok() {
                    sent.fetch_add(requests.len(), Ordering::Relaxed);
                    // Until the connection is reset.
                    let _ = stream.ready(tokio::io::Interest::ERROR).await;
                }
            }
        });
    seen.await.check(&scale);
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_connections_leave_file_handles_for_everything_else() {
    let scale = Scale::chosen();
    let files = 400;
    let server = start(&scale.settings(), Some(files)).await;
    let log = server.process.log().unwrap();
    let lowered = log.lines().find(|line| line.contains("ulimit -n")).expect(&log);
    assert!(lowered.contains("\"HOLDFAST_MAX_CONNECTIONS\":10000"), "{lowered}");
    assert!(lowered.contains(&format!("\"open_files\":{files}")), "{lowered}");
    let idle: Arc<[u8]> = Vec::new().into();
    let name = "connections beyond the limit of open files";
    let seen = flood(&server, name, (2 * files, scale.time), |address, sent| {
        send_and_stay(address, Arc::clone(&idle), sent, b'\n')
    });
    seen.await.check(&scale);
    assert!(!server.process.log().unwrap().contains("cannot be accepted"));
}

#[tokio::test]
async fn too_few_file_handles_prevent_the_start_with_an_error() {
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", "ulimit -n 200; exec \"$0\" serve", BINARY])
        .env("DATABASE_URL", "postgres://u@127.0.0.1:1/db")
        .env("REDIS_URL", "redis://127.0.0.1:1")
        .env("HOLDFAST_METRICS_ADDR", "127.0.0.1:0")
        .env("HOLDFAST_HTTP_ADDR", "127.0.0.1:0")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let sentence = text.lines().last().unwrap_or_default();
    assert!(!output.status.success(), "{text}");
    assert!(
        sentence.contains("HOLDFAST_MAX_CONNECTIONS is 10000") && sentence.contains("is 200"),
        "{text}"
    );
}
