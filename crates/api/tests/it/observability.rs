//! Metrics and logs for operators.

use std::time::Duration;

use holdfast_sandbox::PATIENCE;
use reqwest::Method;
use serde_json::{Value, json};

use crate::server::Server;

#[tokio::test]
async fn requests_orders_and_cache_reads_are_counted() {
    let server = Server::start().await;
    let product = server.product(3).await;
    for _ in 0..5 {
        server.order(product, 1).await;
    }
    for _ in 0..4 {
        server.api.get(&format!("/products/{product}/")).await;
    }
    server.api.get("/nothing/at/all").await;
    server.api.send(Method::PATCH, "/orders", &[], "").await;

    for (metric, expected) in [
        ("holdfast_http_requests_total{method=\"POST\",route=\"/orders\",status=\"2xx\"}", 3),
        ("holdfast_http_requests_total{method=\"POST\",route=\"/orders\",status=\"4xx\"}", 2),
        ("holdfast_http_requests_total{method=\"GET\",route=\"/products/{id}\",status=\"2xx\"}", 4),
        ("holdfast_http_requests_total{method=\"GET\",route=\"unmatched\",status=\"4xx\"}", 1),
        ("holdfast_http_requests_total{method=\"other\",route=\"/orders\",status=\"4xx\"}", 1),
        ("holdfast_http_request_seconds_count{method=\"POST\",route=\"/orders\"}", 5),
        ("holdfast_http_requests_in_flight", 0),
        ("holdfast_orders_accepted_total", 3),
        ("holdfast_orders_refused_total{reason=\"not_enough\"}", 2),
    ] {
        assert_eq!(server.metric(metric).await, expected, "{metric}");
    }
    let reads = async |tier: &str| {
        server.metric(&format!("holdfast_cache_reads_total{{tier=\"{tier}\"}}")).await
    };
    let all = reads("process").await + reads("redis").await + reads("none").await;
    // Admission reads products as well, if they seem to be sold out.
    assert!((4..=6).contains(&all), "{all}");
    let page = server.internal.get("/metrics").await;
    assert!(page.header("content-type").starts_with("text/plain; version=0.0.4"));
    for name in [
        "holdfast_build_info{",
        "process_resident_memory_bytes",
        "holdfast_db_connections{",
        "holdfast_cache_up{",
        "holdfast_db_connection_wait_seconds_bucket{",
    ] {
        assert!(page.text.contains(name), "{name} is not in\n{}", page.text);
    }
    // A scrape uses neither the database nor Redis.
    server.redis.pause().unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(server.internal.get("/metrics").await.status, 200);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn an_internal_error_is_hidden_and_its_cause_is_logged_under_the_request_id() {
    let server = Server::start().await;
    let product = server.product(3).await;
    // A statement that no migration of Holdfast contains.
    let broken = std::process::Command::new("psql")
        .args([&server.database_url, "-qc", "ALTER TABLE orders RENAME COLUMN failure TO reason"])
        .output();
    assert!(broken.is_ok_and(|output| output.status.success()), "psql failed");
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let traceparent = format!("00-{trace}-b7ad6b7169203331-00");
    let id = [("x-request-id", "look-me-up"), ("traceparent", traceparent.as_str())];
    let answer = server.api.send(Method::GET, "/orders", &id, "").await;
    assert_eq!(answer.status, 500);
    assert_eq!(answer.problem()["type"], "/problems/internal");
    for internal in ["failure", "column", "orders", "sql"] {
        assert!(!answer.text.to_lowercase().contains(internal), "{}", answer.text);
    }
    let log = server.process.log().unwrap();
    let line: Value = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|line| line["request_id"] == "look-me-up")
        .unwrap_or_else(|| panic!("not logged:\n{log}"));
    assert_eq!(line["level"], "ERROR");
    // The caller's trace id is in the log, although no spans are recorded here.
    assert_eq!(line["trace_id"], trace);
    assert!(line["error"].as_str().unwrap().contains("failure does not exist"), "{line}");
    assert_eq!(server.api.get(&format!("/products/{product}")).await.status, 200);
}

#[tokio::test]
async fn successful_requests_are_not_logged() {
    let server = Server::start().await;
    let product = server.product(3).await;
    let before = server.process.log().unwrap().len();
    server.order(product, 1).await;
    server.order(product, 100).await;
    server.api.get(&format!("/products/{product}")).await;
    server.api.post("/orders", &json!({})).await;
    // On a busy machine, Redis may answer too late, which is a warning without a request.
    let log = server.process.log().unwrap().split_off(before);
    for line in log.lines() {
        let shown: Value = serde_json::from_str(line).unwrap();
        assert!(shown["level"] == "WARN" && shown["request_id"].is_null(), "{line}");
    }
}

/// A collector that never answers delays neither requests nor the shutdown.
#[tokio::test]
async fn a_hung_collector_does_not_delay_requests() {
    let collector = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let server = Server::with(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "16"),
    ])
    .await;
    let product = server.product(1000).await;
    for _ in 0..100 {
        let begun = std::time::Instant::now();
        assert_eq!(server.order(product, 1).await.status, 201);
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    let (_connection, _) = collector.accept().unwrap();
    let dropped = server.metric("holdfast_trace_spans_total{outcome=\"queue_full\"}").await;
    assert!(dropped > 100, "{dropped} spans are counted as dropped");
    let begun = std::time::Instant::now();
    server.process.terminate().unwrap();
    let status = server.process.wait(PATIENCE).await.expect("it has not ended");
    assert!(status.success());
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_log_level_can_be_changed_at_run_time() {
    let server = Server::start().await;
    let now = async || server.admin.get("/log-level").await.json()["log"].clone();
    assert_eq!(now().await, "info");
    let put = async |log: String| server.admin.put("/log-level", &json!({"log": log})).await;
    for wrong in ["warn,hyper=loud", "debgu", "holdfast_apii=debug", ""] {
        let answer = put(wrong.to_owned()).await;
        assert_eq!(answer.status, 422, "{wrong}: {}", answer.text);
    }
    assert_eq!(put("x".repeat(5000)).await.status, 422);
    assert_eq!(now().await, "info");

    let before = server.process.log().unwrap().len();
    assert_eq!(put("warn,holdfast_admission=debug".to_owned()).await.status, 200);
    let about = now().await.to_string();
    assert!(about.contains("holdfast_admission=debug"), "{about}");
    // The log shows operators that the level was changed, and when.
    let log = server.process.log().unwrap().split_off(before);
    let mut lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let now = json!("warn,holdfast_admission=debug");
    assert!(lines.any(|line| line["before"] == "info" && line["now"] == now), "{log}");
    // Publishing to the workers fails, which is logged at debug.
    server.redis.kill9().await.unwrap();
    let product = server.product(3).await;
    assert_eq!(server.order(product, 1).await.status, 201);
    server
        .until("debug lines", async || server.process.log().unwrap().contains("left to the sweep"))
        .await;
}

#[tokio::test]
async fn nothing_can_be_changed_on_the_internal_port() {
    let server = Server::start().await;
    for (method, path, status) in [
        (Method::PUT, "/log-level", 404),
        (Method::GET, "/log-level", 404),
        (Method::PUT, "/metrics", 405),
        (Method::POST, "/livez", 405),
        (Method::DELETE, "/readyz", 405),
    ] {
        let answer = server.internal.send(method.clone(), path, &[], "off".to_owned()).await;
        assert_eq!(answer.status, status, "{method} {path}");
    }
    assert_eq!(server.admin.get("/log-level").await.json()["log"], "info");
}

#[tokio::test]
async fn one_signal_raises_the_log_level_and_another_restores_it() {
    let server = Server::start().await;
    let now = async || server.admin.get("/log-level").await.json()["log"].to_string();
    let send = |signal: &str| {
        let pid = server.process.pid().to_string();
        assert!(
            std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success()
        );
    };
    send("-USR1");
    server.until("it logs more", async || now().await.contains("holdfast=debug")).await;
    send("-USR2");
    server.until("it logs what is set", async || now().await == "\"info\"").await;
}
