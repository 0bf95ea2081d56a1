//! The traces of the real binaries, as a collector receives them.
//!
//! `WRITE_DOCS=1 cargo test -p holdfast-sandbox --test it traces` writes the trace in `docs/tracing.md`.

mod collector;
mod tree;

use std::{fs, path::Path, time::Duration};

use collector::{Collector, Span};
use holdfast_sandbox::{
    Process, ProcessOptions, Redis, RedisOptions, migrate, shared_postgres, until, workspace_binary,
};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};

/// The trace id of a client, and the id of the client's span.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENT: &str = "b7ad6b7169203331";

/// An environment whose binaries trace only requests with a sampled `traceparent`.
struct TraceEnvironment {
    collector: Collector,
    database_url: String,
    redis: Redis,
    api: Process,
    api_url: String,
}

impl TraceEnvironment {
    async fn open() -> Self {
        let collector = Collector::start().await;
        let database_url = shared_postgres().await.unwrap().create_database().await.unwrap();
        let redis = Redis::start(RedisOptions::default()).await.unwrap();
        migrate(&workspace_binary("holdfast-api").unwrap(), &database_url).await.unwrap();
        let options = binary("holdfast-api", "serve", &collector, &database_url, &redis)
            .env("HOLDFAST_HTTP_ADDR", "127.0.0.1:0")
            .env("HOLDFAST_ADMIN_ADDR", "127.0.0.1:0")
            .env("HOLDFAST_AUTH", "off");
        let api = Process::start(options).await.unwrap();
        let api_url = format!("http://{}", api.started().await["api"].as_str().unwrap());
        api.logs(&["\"message\":\"ready\""]).await;
        Self { collector, database_url, redis, api, api_url }
    }

    async fn worker(&self) -> Process {
        let options =
            binary("holdfast-worker", "run", &self.collector, &self.database_url, &self.redis)
                .env("HOLDFAST_FULFILMENT", "webhook")
                .env("HOLDFAST_WEBHOOK_URL", format!("{}/webhook", self.collector.url))
                .env("HOLDFAST_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
                .env("HOLDFAST_WEBHOOK_ALLOW_PRIVATE", "true")
                .env("HOLDFAST_SWEEP_INTERVAL_MS", "100")
                .env("HOLDFAST_SWEEP_AFTER_MS", "100");
        Process::start(options).await.unwrap()
    }

    async fn send(&self, method: reqwest::Method, path: &str, body: &Value, traced: bool) -> Value {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = client.request(method.clone(), format!("{}{path}", self.api_url));
        if method != reqwest::Method::GET {
            request = request.json(body);
        }
        if traced {
            request = request.header("traceparent", format!("00-{TRACE}-{CLIENT}-01"));
        }
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
        answer.json().await.unwrap()
    }

    async fn product(&self) -> i64 {
        let body = json!({ "name": "Espresso machine", "price": 499.9, "stock": 100 });
        let product = self.send(reqwest::Method::POST, "/products", &body, false).await;
        product["id"].as_i64().unwrap()
    }

    async fn order(&self, product: i64, traced: bool) {
        let body = json!({ "product_id": product, "quantity": 1 });
        self.send(reqwest::Method::POST, "/orders", &body, traced).await;
    }

    /// Waits until the collector has a span with each of these names in the client's trace: each process sends its spans by
    /// itself, in the order in which they end. Returns all spans of the trace.
    async fn trace_with(&self, names: &[&str]) -> Vec<Span> {
        let of_client = || {
            let spans = self.collector.spans().into_iter();
            spans.filter(|span| span.trace == TRACE).collect::<Vec<_>>()
        };
        for name in names {
            until(name, async || of_client().iter().any(|span| span.name == *name)).await;
        }
        of_client()
    }
}

fn binary(
    name: &str,
    command: &str,
    collector: &Collector,
    database_url: &str,
    redis: &Redis,
) -> ProcessOptions {
    ProcessOptions::new(workspace_binary(name).unwrap())
        .arg(command)
        .env("DATABASE_URL", database_url)
        .env("REDIS_URL", redis.url())
        .env("HOLDFAST_METRICS_ADDR", "127.0.0.1:0")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)
        .env("OTEL_TRACES_SAMPLER", "parentbased_always_off")
        .env("OTEL_BSP_SCHEDULE_DELAY", "20")
}

/// The only span with this name below the given span.
fn child<'a>(spans: &'a [Span], parent: &str, name: &str) -> &'a Span {
    let found: Vec<_> =
        spans.iter().filter(|span| span.parent == parent && span.name == name).collect();
    let [span] = found[..] else {
        panic!("{} spans {name} below {parent} in\n{}", found.len(), tree::render(spans, CLIENT))
    };
    span
}

#[tokio::test]
async fn the_trace_of_an_order_goes_from_its_request_to_its_outcome() {
    let environment = TraceEnvironment::open().await;
    let _worker = environment.worker().await;
    let product = environment.product().await;
    // Orders without a trace, before and after.
    environment.order(product, false).await;
    environment.order(product, true).await;
    environment.order(product, false).await;
    let names = ["POST /orders", "batch", "publish orders", "process orders"];
    let spans = environment.trace_with(&names).await;

    let request = child(&spans, CLIENT, "POST /orders");
    assert_eq!((request.service.as_str(), request.kind), ("holdfast-api", SpanKind::Server));
    assert_eq!(request.attribute("http.request.method"), "POST");
    assert_eq!(request.attribute("http.route"), "/orders");
    assert_eq!(request.attribute("http.response.status_code"), "201");
    let lane = child(&spans, &request.id, "lane wait");
    assert_eq!(lane.attribute("holdfast.lane"), "shared");
    let batch = child(&spans, &request.id, "batch");
    assert!(batch.start >= lane.end && batch.end <= request.end);
    assert!(batch.attribute("holdfast.batch.orders").parse::<u32>().unwrap() >= 1);
    let lock = child(&spans, &batch.id, "lock wait");
    assert_eq!(lock.attribute("db.system.name"), "postgresql");
    let waited: f64 = lock.attribute("holdfast.lock.wait_ms").parse().unwrap();
    let span_ms = Duration::from_nanos(lock.end - lock.start).as_secs_f64() * 1000.0;
    assert!(waited > 0.0 && (waited - span_ms).abs() < 0.1, "{waited} ms, and {span_ms} ms");
    let write = child(&spans, &batch.id, "write");
    let commit = child(&spans, &batch.id, "commit");
    assert!(lock.end <= write.start && write.end <= commit.start && commit.end <= batch.end);

    let publish = child(&spans, &request.id, "publish orders");
    assert_eq!((publish.service.as_str(), publish.kind), ("holdfast-api", SpanKind::Producer));
    assert_eq!(publish.attribute("messaging.system"), "redis");
    let process = child(&spans, &publish.id, "process orders");
    assert_eq!((process.service.as_str(), process.kind), ("holdfast-worker", SpanKind::Consumer));
    assert_eq!(process.attribute("holdfast.outcome"), "completed");
    assert_eq!(process.attribute("holdfast.order.id"), publish.attribute("holdfast.order.id"));
    for name in ["receive orders", "claim", "commit"] {
        assert_eq!(child(&spans, &process.id, name).service, "holdfast-worker");
    }
    let fulfil = child(&spans, &process.id, "fulfil");
    let post = child(&spans, &fulfil.id, "POST");
    assert_eq!((post.kind, post.attribute("http.response.status_code")), (SpanKind::Client, "200"));
    let webhooks = environment.collector.webhooks();
    assert!(webhooks.contains(&format!("00-{TRACE}-{}-01", post.id)), "{webhooks:?}");
    assert!(spans.iter().all(|span| !span.failed), "{spans:?}");

    // The batch has its own trace, and the two traces are linked. There are no spans of the orders without a trace.
    let [batch_trace] = &batch.links[..] else { panic!("{:?}", batch.links) };
    let others = until("the batch's own trace", async || {
        let others = environment.collector.spans().into_iter().filter(|span| span.trace != TRACE);
        let others: Vec<_> = others.collect();
        others.iter().any(|span| span.name == "batch").then_some(others)
    })
    .await;
    assert!(others.iter().all(|span| span.trace == *batch_trace), "{others:?}");
    let whole = child(&others, "", "batch");
    assert_eq!(whole.links, [TRACE]);
    assert_eq!(child(&others, &whole.id, "lock wait").start, lock.start);
    let in_log = environment.api.log().unwrap();
    assert!(!in_log.contains(TRACE), "the log must be empty:\n{in_log}");
    document(&tree::render(&spans, CLIENT));
}

/// Compares a trace with the one in the document, or writes it.
fn document(tree: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/tracing.md");
    let page = fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- written by a test -->\n```text\n", "```\n<!-- end -->");
    let (before, rest) = page.split_once(begin).unwrap();
    let (shown, after) = rest.split_once(end).unwrap();
    if std::env::var_os("WRITE_DOCS").is_some() {
        fs::write(&path, format!("{before}{begin}{tree}{end}{after}")).unwrap();
    } else {
        let what = "type: WRITE_DOCS=1 cargo test -p holdfast-sandbox --test it traces";
        assert_eq!(tree::shape(shown), tree::shape(tree), "docs/tracing.md is out of date; {what}");
    }
}

#[tokio::test]
async fn the_trace_of_a_read_names_the_tier_that_answered() {
    let environment = TraceEnvironment::open().await;
    let product = environment.product().await;
    let path = format!("/products/{product}");
    // The process's memory is used a moment after the start, when the subscription is active.
    let reads = || {
        let spans = environment.collector.spans().into_iter();
        spans.filter(|span| span.name == "GET /products/{id}").collect::<Vec<_>>()
    };
    let from =
        |tier: &str| reads().into_iter().find(|read| read.attribute("holdfast.cache.tier") == tier);
    until("a read is answered from memory", async || {
        environment.send(reqwest::Method::GET, &path, &Value::Null, true).await;
        from("process").is_some().then_some(()).ok_or_else(|| format!("{:?}", reads()))
    })
    .await;
    let spans = environment.trace_with(&["SELECT products"]).await;
    let (first, last) = (from("none").unwrap(), from("process").unwrap());
    assert_eq!(child(&spans, &first.id, "SELECT products").kind, SpanKind::Client);
    assert!(!spans.iter().any(|span| span.parent == last.id), "{spans:?}");
}

#[tokio::test]
async fn an_order_that_was_lost_keeps_its_trace() {
    let environment = TraceEnvironment::open().await;
    let product = environment.product().await;
    environment.order(product, true).await;
    let request = environment.trace_with(&["POST /orders", "publish orders"]).await;
    let request = child(&request, CLIENT, "POST /orders").id.clone();
    environment.redis.flush().await.unwrap();
    let _worker = environment.worker().await;
    let spans = environment.trace_with(&["process orders"]).await;
    let published: Vec<_> = spans
        .iter()
        .filter(|span| span.name == "publish orders" && span.service == "holdfast-worker")
        .collect();
    let [sweep] = published[..] else { panic!("{spans:?}") };
    assert_eq!(sweep.parent, request);
    child(&spans, &sweep.id, "process orders");
}
