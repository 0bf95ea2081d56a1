//! Malformed HTTP requests: each is answered with a problem, or its connection ends.

use std::time::Duration;

use crate::{client::Raw, server::Server};

const SHORT: Duration = Duration::from_secs(10);

/// The last answer must be a complete problem, and the connection must have ended after it.
fn check(answer: &Raw, status: u16, problem: &str, shown: &str) {
    assert!(answer.closed, "{shown}: {}", answer.text);
    assert_eq!(answer.statuses().last(), Some(&status), "{shown}: {}", answer.text);
    let last = answer.text.rfind("HTTP/1.1 ").unwrap();
    let (head, body) = answer.text[last..].split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    for line in ["content-type: application/problem+json", "connection: close"] {
        assert!(head.contains(line), "{shown}: {head}");
    }
    assert!(head.contains(&format!("content-length: {}", body.len())), "{shown}: {head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["type"], problem, "{shown}");
    assert_eq!(body["status"], status, "{shown}");
    let id = body["request_id"].as_str().unwrap();
    assert!(!id.is_empty() && head.contains(&format!("x-request-id: {id}")), "{shown}: {head}");
}

#[tokio::test]
async fn a_malformed_request_is_a_problem_and_the_end_of_its_connection() {
    let server = Server::start().await;
    let get = |headers: &str| format!("GET /livez HTTP/1.1\r\n{headers}\r\n");
    let post = |headers: &str, body: &str| {
        format!(
            "POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{headers}\r\n{body}"
        )
    };
    let (unreadable, target, headers) =
        ("/problems/unreadable", "/problems/target-too-long", "/problems/headers-too-large");
    let large = "x".repeat(100_000);
    let many = "x: y\r\n".repeat(101);
    let cases = [
        ("hello\r\n\r\n".to_owned(), 400, unreadable),
        ("\0\u{1}\u{2}".to_owned(), 400, unreadable),
        ("GET\r\n\r\n".to_owned(), 400, unreadable),
        ("GET / HTTP/9\r\n\r\n".to_owned(), 400, unreadable),
        ("GET /livez HTTP/1.1 x\r\nhost: localhost\r\n\r\n".to_owned(), 400, unreadable),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 400, unreadable),
        ("GET livez HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(), 400, unreadable),
        ("GET http:// HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(), 400, unreadable),
        (get(""), 400, unreadable),
        (get("host: localhost\r\nHost: localhost\r\n"), 400, unreadable),
        (get("host: \r\n"), 400, unreadable),
        (get("host: local host\r\n"), 400, unreadable),
        (get("host: localhost/x\r\n"), 400, unreadable),
        (get("host: user@localhost\r\n"), 400, unreadable),
        (get("host: localhost:http\r\n"), 400, unreadable),
        (get("host: localhost\r\nno colon\r\n"), 400, unreadable),
        (get("host: localhost\r\nspace : x\r\n"), 400, unreadable),
        (get("host: localhost\r\nx: a\r\n folded\r\n"), 400, unreadable),
        (get("host: localhost\r\nx: \0\r\n"), 400, unreadable),
        (post("content-length: x\r\n", ""), 400, unreadable),
        (post("content-length: -1\r\n", ""), 400, unreadable),
        (post("content-length: 2\r\ncontent-length: 3\r\n", "{}"), 400, unreadable),
        (post("content-length: 2\r\ncontent-length: 2\r\n", "{}"), 400, unreadable),
        (post("content-length: 2, 2\r\n", "{}"), 400, unreadable),
        (post("content-length: 99999999999999999999\r\n", "{}"), 400, unreadable),
        (post("content-length: 5\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"), 400, unreadable),
        (post("transfer-encoding: chunked\r\ncontent-length: 5\r\n", "0\r\n\r\n"), 400, unreadable),
        (post("transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n"), 400, unreadable),
        (post("transfer-encoding: identity\r\n", ""), 400, unreadable),
        (post("transfer-encoding: chunked\r\n", "zz\r\n"), 400, unreadable),
        (post("transfer-encoding: chunked\r\n", "2\r\n{}x0\r\n\r\n"), 400, unreadable),
        ("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(), 400, unreadable),
        (format!("GET /{large} HTTP/1.1\r\nhost: localhost\r\n\r\n"), 414, target),
        (format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", &large[..9000]), 414, target),
        (large.clone(), 414, target),
        (get(&format!("host: localhost\r\nx: {large}\r\n")), 431, headers),
        (get(&format!("host: localhost\r\n{many}")), 431, headers),
    ];
    for (request, status, problem) in &cases {
        let shown = format!("{:?}", &request[..request.len().min(160)]);
        let answer = server.api.raw(request.as_bytes(), SHORT).await;
        check(&answer, *status, problem, &shown);
        // The same after valid requests, all sent at once.
        let good = get("host: localhost\r\n");
        let answer = server.api.raw(format!("{good}{good}{request}").as_bytes(), SHORT).await;
        check(&answer, *status, problem, &shown);
        assert_eq!(answer.statuses(), [200, 200, *status], "{shown}: {}", answer.text);
    }
    assert_eq!(server.api.get("/health").await.status, 200);
    assert!(
        server
            .metric(
                "holdfast_http_requests_total{method=\"other\",route=\"unmatched\",status=\"4xx\"}"
            )
            .await
            > 60
    );
}

#[tokio::test]
async fn a_refusal_has_the_id_of_its_request() {
    let server = Server::start().await;
    let request = b"GET / HTTP/1.1\r\nx-request-id: order-42\r\n\r\n";
    let answer = server.api.raw(request, SHORT).await;
    assert!(answer.text.contains("x-request-id: order-42\r\n"), "{}", answer.text);
    assert!(answer.text.contains("\"request_id\":\"order-42\""), "{}", answer.text);
}

/// Valid requests with one or two changes get an answer of a route, a problem, or no answer.
#[tokio::test]
async fn every_error_has_a_body_with_a_reason() {
    use rand::{Rng as _, SeedableRng as _};

    let server = Server::start().await;
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let good = [
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: */*\r\n\r\n",
        "POST /orders HTTP/1.1\r\nhost: localhost:80\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
        "POST /orders HTTP/1.1\r\nhost: [::1]\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "HEAD http://localhost/products?limit=1 HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\nupgrade: x\r\n\r\n",
        "CONNECT localhost:80 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "OPTIONS * HTTP/1.0\r\ncontent-length: 0\r\n\r\n",
    ];
    let pieces: [&[u8]; 12] =
        [b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b"\t", b"\xff", b",", b"/", b"9", b"\x7f"];
    for round in 0..400 {
        let mut request = good[round % good.len()].as_bytes().to_vec();
        for _ in 0..random.random_range(1..3) {
            let at = random.random_range(0..request.len());
            let piece = pieces[random.random_range(0..pieces.len())];
            let end = (at + random.random_range(0..3)).min(request.len());
            request.splice(at..end, piece.iter().copied());
        }
        // The server does not wait for a client that has closed its sending side.
        let answer = server.api.raw_and_end(&request, SHORT).await;
        let shown = String::from_utf8_lossy(&request).into_owned();
        assert!(answer.closed, "{shown:?}");
        for part in answer.text.split("HTTP/1.1 ").skip(1) {
            let status: u16 = part[..3].parse().unwrap();
            let is_head = request.starts_with(b"HEAD");
            if (400..600).contains(&status) && !is_head {
                assert!(
                    part.contains("application/problem+json") && part.contains("request_id"),
                    "{shown:?}: {}",
                    answer.text
                );
            }
        }
    }
    assert_eq!(server.api.get("/health").await.status, 200);
}

#[tokio::test]
async fn requests_in_chunks_can_follow_one_another_on_a_connection() {
    let server = Server::start().await;
    let one = "POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
               transfer-encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\ntrailer: x\r\n\r\n";
    let last = "GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let all = format!("{one}{one}{last}");
    let answer = server.api.raw(all.as_bytes(), SHORT).await;
    assert_eq!(answer.statuses(), [422, 422, 200], "{}", answer.text);
    // The result does not depend on how the bytes are split.
    for cut in (1..all.len()).step_by(13) {
        let (first, second) = all.as_bytes().split_at(cut);
        let answer = server.api.raw_in_parts(&[first, second], SHORT).await;
        assert_eq!(answer.statuses(), [422, 422, 200], "{cut}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_head_of_many_small_parts_is_one_head() {
    let server = Server::start().await;
    let request = "GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let parts: Vec<_> = request.as_bytes().chunks(3).collect();
    let answer = server.api.raw_in_parts(&parts, SHORT).await;
    assert_eq!(answer.statuses(), [200], "{}", answer.text);
}
