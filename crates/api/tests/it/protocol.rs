//! HTTP: methods, content types, sizes, time limits, request ids.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::server::{PATIENT, Server};

/// The time limit of an answer that does not wait for more bytes.
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let server = Server::start().await;
    for path in [
        "/nothing",
        "/products/1/x",
        "/orders/1/lines",
        "/docs2",
        "//orders",
        "/metrics",
        "/problems/x",
    ] {
        let answer = server.api.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.problem()["type"], "/problems/not-found");
    }
    for (method, path, allowed) in [
        (Method::DELETE, "/orders", &["GET", "POST"][..]),
        (Method::PATCH, "/products/1", &["GET", "PUT", "DELETE"]),
        (Method::POST, "/orders/1/", &["GET"]),
        (Method::PUT, "/health", &["GET"]),
        (Method::OPTIONS, "/products", &["GET", "POST"]),
    ] {
        let answer = server.api.send(method.clone(), path, &[], "").await;
        assert_eq!(answer.status, 405, "{method} {path}");
        assert_eq!(answer.problem()["type"], "/problems/method-not-allowed");
        for method in allowed {
            assert!(answer.header("allow").contains(method), "{path}: {}", answer.header("allow"));
        }
    }
}

#[tokio::test]
async fn each_problem_links_to_its_explanation() {
    let server = Server::start().await;
    let problem = server.api.get("/products/x").await.problem();
    let explained = server.api.get(problem["type"].as_str().unwrap()).await;
    assert_eq!(explained.status, 200);
    assert_eq!(explained.json()["title"], problem["title"]);
    let all = server.api.get("/problems").await.json();
    assert!(all.as_array().unwrap().len() > 10);
}

#[tokio::test]
async fn the_request_id_is_kept_or_created() {
    let server = Server::start().await;
    let with = async |id: &str| {
        server.api.send(Method::GET, "/products/x", &[("x-request-id", id)], "").await
    };
    assert_eq!(with("order-42").await.header("x-request-id"), "order-42");
    assert_eq!(with("order-42").await.problem()["request_id"], "order-42");
    for bad in ["", "a b", &"x".repeat(129)] {
        let made = with(bad).await;
        assert_ne!(made.header("x-request-id"), bad);
        assert!(!made.header("x-request-id").is_empty());
    }
    let (one, two) = (server.api.get("/health").await, server.api.get("/health").await);
    assert_ne!(one.header("x-request-id"), two.header("x-request-id"));
}

#[tokio::test]
async fn a_body_of_another_type_is_refused() {
    let server = Server::start().await;
    let product = server.product(10).await;
    let order = json!({ "product_id": product, "quantity": 1 }).to_string();
    for headers in [
        &[][..],
        &[("content-type", "")],
        &[("content-type", "text/plain")],
        &[("content-type", "multipart/form-data; boundary=x")],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[("content-type", "application/json"), ("content-encoding", "gzip")],
    ] {
        let answer = server.api.send(Method::POST, "/orders", headers, order.clone()).await;
        assert_eq!(answer.status, 415, "{headers:?}");
        assert_eq!(answer.problem()["type"], "/problems/unsupported-media-type");
    }
    assert_eq!(server.contents().await.1, json!([]));
    for content_type in ["Application/JSON", "application/vnd.shop+json; charset=utf-8"] {
        let headers = [("content-type", content_type)];
        let answer = server.api.send(Method::POST, "/orders", &headers, order.clone()).await;
        assert_eq!(answer.status, 201, "{content_type}: {}", answer.text);
    }
    let release = server.api.send(Method::POST, "/orders/1/cancel", &[], "").await;
    assert_eq!(release.status, 200, "without a body there is no type: {}", release.text);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_and_the_server_continues() {
    let server = Server::with(&[("HOLDFAST_MAX_BODY_BYTES", "1048576")]).await;
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(1 << 20));
    for path in ["/orders", "/products"] {
        let answer = server.api.json(Method::POST, path, large.clone()).await;
        assert_eq!(answer.status, 413, "{path}");
        assert_eq!(answer.problem()["type"], "/problems/body-too-large");
        assert_eq!(answer.header("connection"), "close");
    }
    // The body is just within the limit, so the error is about its fields.
    let full = format!("{{\"x\":\"{}\"}}", "x".repeat((1 << 20) - 8));
    assert_eq!(full.len(), 1 << 20);
    assert_eq!(server.api.json(Method::POST, "/orders", full).await.status, 422);

    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let chunked = format!(
        "POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
        chunk.repeat(20)
    );
    let answer = server.api.raw(chunked.as_bytes(), LIMIT).await;
    assert_eq!(answer.statuses(), [413], "{}", answer.text);
    assert!(answer.closed);

    // A body that is announced as far too large and never sent: the answer does not wait for it.
    let announced = "POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 99999999999\r\n\r\n{";
    let begun = Instant::now();
    let answer = server.api.raw(announced.as_bytes(), LIMIT).await;
    assert_eq!(answer.statuses(), [413], "{}", answer.text);
    assert!(answer.closed && begun.elapsed() < LIMIT);

    // A client that asks first (`Expect`) gets the answer without sending the body.
    let asking = "POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 2000000\r\n\r\n";
    let answer = server.api.raw(asking.as_bytes(), LIMIT).await;
    assert_eq!(answer.statuses(), [413], "{}", answer.text);
    assert_eq!(server.api.get("/health").await.status, 200);
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_504_with_an_unknown_outcome() {
    let server = Server::with(&[("HOLDFAST_REQUEST_TIMEOUT_MS", "500")]).await;
    // With SQL, because a request could time out, too.
    let made =
        "INSERT INTO products (name, price_minor, stock) VALUES ('Lamp', 1, 10) RETURNING id";
    let product: i64 = sqlx::query_scalar(made).fetch_one(server.store.pool()).await.unwrap();
    let locked =
        server.store.lock_product(holdfast_domain::ProductId(product)).await.unwrap().unwrap();
    let begun = Instant::now();
    let change = server.api.put(&format!("/products/{product}"), &json!({ "stock": 5 })).await;
    assert_eq!(change.status, 504, "{}", change.text);
    assert_eq!(change.problem()["type"], "/problems/timeout");
    let order = server.order(product, 1).await;
    assert_eq!(order.status, 504, "{}", order.text);
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    drop(locked);
    server
        .until("the product is sold again", async || server.order(product, 1).await.status == 201)
        .await;
}

/// On the wire, such a client looks like one that has disconnected. So its order must not be placed, and nothing must
/// be kept for it.
#[tokio::test]
async fn a_client_that_closes_its_sending_side_counts_as_disconnected() {
    let server = Server::with(&PATIENT).await;
    let product = server.product(10).await;
    let locked =
        server.store.lock_product(holdfast_domain::ProductId(product)).await.unwrap().unwrap();
    let order = json!({ "product_id": product, "quantity": 1 });
    let sale = json!({
        "products": [product],
        "starts_at": "2036-11-27T10:00:00Z",
        "ends_at": "2036-11-27T12:00:00Z",
    });
    let until = async |metric: &str, value| {
        let what = format!("{metric} is {value}");
        server.until(&what, async || server.metric(metric).await == value).await;
    };
    let in_flight = "holdfast_http_requests_in_flight";
    for (client, line, body, waiting) in [
        (&server.api, "POST /orders", order, "holdfast_own_lanes"),
        (&server.admin, "PUT /sales/x", sale, in_flight),
    ] {
        let body = body.to_string();
        let request = format!(
            "{line} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(&client.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        until(waiting, 1).await;
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), "", "{line}");
        until(in_flight, 0).await;
    }
    drop(locked);
    until("holdfast_orders_abandoned_total", 1).await;
    assert_eq!(server.contents().await.1, json!([]));
    assert_eq!(server.admin.get("/sales/x").await.status, 404);
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let server = Server::start().await;
    let product = server.product(10).await;
    let path = format!("/products/{product}");
    let head = server.api.send(Method::HEAD, &path, &[], "").await;
    let get = server.api.get(&path).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    for header in ["content-type", "content-length"] {
        assert_eq!(head.header(header), get.header(header), "{header}");
    }
}

#[tokio::test]
async fn requests_can_follow_one_another_on_a_connection() {
    let server = Server::start().await;
    let product = server.product(10).await;
    let order = json!({ "product_id": product, "quantity": 1 }).to_string();
    let one = format!(
        "POST /orders/ HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{order}",
        order.len()
    );
    let bad = "POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    let last = "GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let answer = server.api.raw(format!("{one}{bad}{one}{last}").as_bytes(), LIMIT).await;
    assert_eq!(answer.statuses(), [201, 422, 201, 200], "{}", answer.text);
}
