//! The binary as an operator uses it: settings, subcommands, start and
//! shutdown.

use std::{
    process::{Command, Output},
    time::Instant,
};

use holdfast_sandbox::{
    PATIENCE, Port, Postgres, PostgresOptions, Process, ProcessOptions, Redis, RedisOptions,
    shared_postgres,
};
use serde_json::{Value, json};

use crate::server::{BINARY, PATIENT, Server, addresses, database, spawn};

fn run(arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(arguments);
    for variable in ["DATABASE_URL", "REDIS_URL"] {
        command.env_remove(variable);
    }
    command.envs(env.iter().copied()).output().unwrap()
}

const DATABASE: (&str, &str) = ("DATABASE_URL", "postgres://u:hunter2@127.0.0.1:1/db");
const REDIS: (&str, &str) = ("REDIS_URL", "redis://:hunter2@127.0.0.1:1");

#[test]
fn a_wrong_setting_prevents_the_start_with_one_line() {
    for (env, expected) in [
        (&[REDIS][..], "DATABASE_URL must be set."),
        (&[DATABASE], "REDIS_URL must be set."),
        (
            &[REDIS, ("DATABASE_URL", "mysql://u:hunter2@h/db")],
            "DATABASE_URL must be the address of a PostgreSQL database, such as postgres://user:password@host:5432/holdfast.",
        ),
        (
            &[DATABASE, REDIS, ("DATABASE_READ_URL", "mysql://u:hunter2@h/db")],
            "DATABASE_READ_URL must be the address of a PostgreSQL database, such as postgres://user:password@host:5432/holdfast.",
        ),
        (
            &[
                DATABASE,
                REDIS,
                ("DATABASE_READ_URL", "postgres://h/db?target_session_attrs=primary"),
            ],
            "DATABASE_READ_URL must name standbys: target_session_attrs may be standby, prefer-standby, read-only or any.",
        ),
        (
            &[DATABASE, ("REDIS_URL", "redis://:hunter2@h:port")],
            "REDIS_URL must be the address of a Redis server, such as redis://:password@host:6379/0.",
        ),
        (
            &[DATABASE, REDIS, ("HOLDFAST_MAX_QUANTITY", "0")],
            "HOLDFAST_MAX_QUANTITY must be a whole number from 1 to 1000000, and is \"0\".",
        ),
        (
            &[DATABASE, REDIS, ("HOLDFAST_HTTP_ADDR", "8000")],
            "HOLDFAST_HTTP_ADDR must be an IP address and a port, such as 0.0.0.0:8000 or [::]:8000, and is \"8000\".",
        ),
        (
            &[DATABASE, REDIS, ("HOLDFAST_LOG_FORMAT", "xml")],
            "HOLDFAST_LOG_FORMAT must be one of json, pretty, and is \"xml\".",
        ),
        (
            &[DATABASE, REDIS, ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector")],
            "OTEL_EXPORTER_OTLP_ENDPOINT must be empty or an http:// address such as http://otel-collector:4318, and is \"collector\".",
        ),
        (
            &[DATABASE, REDIS, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
            "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf, which collectors accept on port 4318, and is \"grpc\".",
        ),
        (
            &[DATABASE, REDIS, ("OTEL_TRACES_SAMPLER", "sometimes")],
            "OTEL_TRACES_SAMPLER must be always_on, always_off, traceidratio, or one of them with \
             the prefix parentbased_, and is \"sometimes\".",
        ),
        (
            &[DATABASE, REDIS, ("OTEL_TRACES_SAMPLER_ARG", "2")],
            "OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1, and is \"2\".",
        ),
        (
            &[DATABASE, REDIS, ("OTEL_BSP_MAX_QUEUE_SIZE", "0")],
            "OTEL_BSP_MAX_QUEUE_SIZE must be a whole number from 1 to 1000000, and is \"0\".",
        ),
        (
            &[DATABASE, REDIS, ("HOLDFAST_LOCK_TIMEOUT_MS", "5000")],
            "HOLDFAST_LOCK_TIMEOUT_MS must be less than HOLDFAST_STATEMENT_TIMEOUT_MS; otherwise a locked row looks like a slow statement.",
        ),
    ] {
        let output = run(&["serve"], env);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text, format!("holdfast-api: {expected}\n"), "{env:?}");
        assert!(!output.status.success());
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn the_help_names_every_setting() {
    let output = run(&["serve", "--help"], &[DATABASE, REDIS]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for variable in [
        "HOLDFAST_HTTP_ADDR",
        "HOLDFAST_METRICS_ADDR",
        "DATABASE_URL",
        "REDIS_URL",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "HOLDFAST_DB_POOL_SIZE",
        "HOLDFAST_LOCK_TIMEOUT_MS",
        "HOLDFAST_STATEMENT_TIMEOUT_MS",
        "HOLDFAST_MAX_QUANTITY",
        "HOLDFAST_MAX_BODY_BYTES",
        "HOLDFAST_REQUEST_TIMEOUT_MS",
        "HOLDFAST_MAX_CONNECTIONS",
        "HOLDFAST_LANE_DEPTH",
        "HOLDFAST_BATCH_MAX",
        "HOLDFAST_CACHE_MAX_AGE_MS",
        "HOLDFAST_CACHE_TTL_MS",
        "HOLDFAST_REDIS_TIMEOUT_MS",
        "HOLDFAST_SHUTDOWN_TIMEOUT_MS",
        "HOLDFAST_LOG",
    ] {
        assert!(text.contains(&format!("[env: {variable}")), "{variable} is not in\n{text}");
    }
    assert!(text.contains("if not set, 0.0.0.0:8000") && text.contains("(1 to 1000000)"));
    assert!(!text.contains("hunter2"), "a password is in\n{text}");
}

#[tokio::test]
async fn a_port_in_use_is_reported_in_one_sentence() {
    let port = Port::lease().unwrap();
    let _taken = std::net::TcpListener::bind(port.address()).unwrap();
    let address = port.address().to_string();
    let free = ("HOLDFAST_METRICS_ADDR", "127.0.0.1:0");
    let output = run(&["serve"], &[DATABASE, REDIS, free, ("HOLDFAST_HTTP_ADDR", &address)]);
    let text = String::from_utf8(output.stderr).unwrap();
    let sentence =
        format!("holdfast-api: HOLDFAST_HTTP_ADDR: {address} is in use by another process\n");
    assert_eq!(text, sentence);
    assert!(!output.status.success());
}

#[tokio::test]
async fn migrations_run_and_can_run_again() {
    let url = shared_postgres().await.unwrap().create_database().await.unwrap();
    for _ in 0..2 {
        let output = run(&["migrate"], &[("DATABASE_URL", &url)]);
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && log.is_empty(), "{log}");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            said.starts_with("The schema is up to date") && said.lines().count() == 1,
            "{said}"
        );
    }
    let output = run(&["migrate"], &[DATABASE]);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4));
    assert!(log.contains("could not be migrated") && !log.contains("hunter2"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_wait_for_a_database_that_is_not_up_yet() {
    let postgres = Postgres::start(PostgresOptions::default()).await.unwrap();
    let url = postgres.create_database().await.unwrap();
    postgres.shutdown().await.unwrap();
    let options = ProcessOptions::new(BINARY)
        .arg("migrate")
        .env("DATABASE_URL", &url)
        .env("HOLDFAST_MIGRATE_WAIT_MS", "60000");
    let migrating = Process::start(options).await.unwrap();
    migrating.logs(&["waiting for the database"]).await;
    postgres.restart().await.unwrap();
    let status = migrating.wait(PATIENCE).await;
    assert!(status.is_some_and(|status| status.success()), "{}", migrating.log_tail(20));
    assert!(migrating.log().unwrap().contains("The schema is up to date"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_not_ready_before_the_schema_exists() {
    let redis = Redis::start(RedisOptions::default()).await.unwrap();
    let url = shared_postgres().await.unwrap().create_database().await.unwrap();
    let process = spawn(&url, &redis.url(), &[]).await;
    let [api, internal, _] = addresses(&process).await;
    let (api, internal) = (crate::client::Client::new(&api), crate::client::Client::new(&internal));
    assert_eq!(api.get("/livez").await.status, 200);
    assert_eq!(api.get("/readyz").await.status, 503);
    let healthcheck = |arguments: &[&str]| {
        run(arguments, &[("HOLDFAST_METRICS_ADDR", &internal.address)]).status.success()
    };
    assert!(healthcheck(&["healthcheck"]));
    assert!(!healthcheck(&["healthcheck", "--ready"]));

    assert!(run(&["migrate"], &[("DATABASE_URL", &url)]).status.success());
    let begun = Instant::now();
    while !healthcheck(&["healthcheck", "--ready"]) {
        assert!(begun.elapsed() < PATIENCE, "{}", process.log_tail(20));
    }
    assert_eq!(api.get("/readyz").await.status, 200);
    assert!(!run(&["healthcheck"], &[("HOLDFAST_METRICS_ADDR", "127.0.0.1:1")]).status.success());
}

/// A server of its own, because the test stops it.
async fn on_its_own_postgres(unready_after_ms: &str) -> (Postgres, Server) {
    let postgres = Postgres::start(PostgresOptions::default()).await.unwrap();
    let url = postgres.ensure_database("holdfast").await.unwrap();
    assert!(run(&["migrate"], &[("DATABASE_URL", &url)]).status.success());
    let redis = Redis::start(RedisOptions::default()).await.unwrap();
    let settings = [("HOLDFAST_UNREADY_AFTER_MS", unready_after_ms)];
    (postgres, Server::on(&url, redis, &settings).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_stays_ready_during_a_restart_of_the_database() {
    // Longer than a restart takes on a busy machine.
    let (postgres, server) = on_its_own_postgres("60000").await;
    let product = server.product(100).await;
    postgres.restart().await.unwrap();
    server.until("orders are taken", async || server.order(product, 1).await.status == 201).await;
    assert_eq!(server.internal.get("/readyz").await.status, 200);
    assert!(!server.process.log().unwrap().contains("not ready: the database"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_ready_while_it_can_accept_orders() {
    let (postgres, server) = on_its_own_postgres("1500").await;
    let product = server.product(100).await;
    let ready = async || server.internal.get("/readyz").await.status == 200;

    // A database that stays down, and one that hangs.
    postgres.kill9().await.unwrap();
    server.until("it becomes not ready", async || !ready().await).await;
    assert_eq!(server.internal.get("/livez").await.status, 200);
    assert_eq!(server.order(product, 1).await.status, 503, "and answers cleanly");
    postgres.restart().await.unwrap();
    server.until("it is back", ready).await;
    postgres.pause().await.unwrap();
    server.until("it becomes not ready", async || !ready().await).await;
    postgres.resume().await.unwrap();
    server.until("it is back", ready).await;
    server.until("orders are taken", async || server.order(product, 1).await.status == 201).await;
}

#[tokio::test]
async fn sigterm_answers_requests_in_progress_and_stops() {
    let server = Server::with(&PATIENT).await;
    let product = server.product(10).await;
    let locked =
        server.store.lock_product(holdfast_domain::ProductId(product)).await.unwrap().unwrap();
    let waiting = {
        let api = server.api.clone();
        let body = json!({ "product_id": product, "quantity": 1 });
        tokio::spawn(async move { api.post("/orders", &body).await })
    };
    server
        .until("the order is in flight", async || {
            server.metric("holdfast_http_requests_in_flight").await >= 1
        })
        .await;
    server.process.terminate().unwrap();
    server
        .until("the port is closed", async || {
            tokio::net::TcpStream::connect(&server.api.address).await.is_err()
        })
        .await;
    assert_eq!(server.internal.get("/readyz").await.status, 503);
    drop(locked);
    let answer = waiting.await.unwrap();
    assert_eq!(answer.status, 201, "{}", answer.text);
    let status = server.process.wait(PATIENCE).await.expect("it has not ended");
    assert!(status.success(), "{status}: {}", server.process.log_tail(10));
    let order = answer.json()["id"].as_i64().unwrap();
    assert!(server.store.order(holdfast_domain::OrderId(order)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_client_that_keeps_its_connection_loses_no_request_at_shutdown() {
    let server = Server::with(&[("HOLDFAST_DRAIN_DELAY_MS", "2000")]).await;
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(1).build().unwrap();
    let url = format!("http://{}/products", server.api.address);
    let first = client.get(&url).send().await.unwrap();
    assert_eq!(first.headers().get("connection"), None);
    first.bytes().await.unwrap();
    server.process.terminate().unwrap();
    let begun = Instant::now();
    // Until the proxy leads to another server.
    loop {
        let answer = client.get(&url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        if answer.headers().get("connection").is_some_and(|value| value == "close") {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "connections stay open");
    }
    let status = server.process.wait(PATIENCE).await.expect("it has not ended");
    assert!(status.success(), "{status}: {}", server.process.log_tail(10));
}

#[tokio::test]
async fn a_second_signal_stops_the_process_at_once() {
    let settings = [&PATIENT[..], &[("HOLDFAST_SHUTDOWN_TIMEOUT_MS", "60000")]].concat();
    let server = Server::with(&settings).await;
    let product = server.product(10).await;
    let _locked =
        server.store.lock_product(holdfast_domain::ProductId(product)).await.unwrap().unwrap();
    let api = server.api.clone();
    let body = json!({ "product_id": product, "quantity": 1 });
    let waiting = tokio::spawn(async move { api.post("/orders", &body).await });
    server
        .until("the order is in flight", async || {
            server.metric("holdfast_http_requests_in_flight").await >= 1
        })
        .await;
    server.process.terminate().unwrap();
    server
        .until("the port is closed", async || {
            tokio::net::TcpStream::connect(&server.api.address).await.is_err()
        })
        .await;
    // It listens for a second signal a moment after the port is closed.
    let ended = async || {
        server.process.terminate().unwrap();
        server.process.status()
    };
    let status = server.until("it has ended", ended).await;
    // An answered order would have ended it with success.
    assert_eq!(status.code(), Some(1));
    waiting.abort();
}

#[tokio::test]
async fn secrets_are_never_logged() {
    let url = database().await.replace("planted-password@", "hunter2@");
    assert!(url.contains("hunter2"), "{url}");
    let process = spawn(&url, REDIS.1, &[("HOLDFAST_LOG", "debug")]).await;
    let [api, ..] = addresses(&process).await;
    let api = crate::client::Client::new(&api);
    api.get("/products").await;
    api.get("/products/1").await;
    let log = process.log().unwrap();
    assert!(log.lines().count() > 1);
    assert!(!log.contains("hunter2"), "{log}");
    for line in log.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "no JSON: {line}");
    }
}
