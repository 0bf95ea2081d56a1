//! An OTLP/HTTP collector that keeps what it receives, and a webhook receiver.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{self, span::SpanKind},
};
use prost::Message as _;

/// A span, as text.
#[derive(Clone, Debug)]
pub struct Span {
    pub service: String,
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    pub kind: SpanKind,
    pub start: u64,
    pub end: u64,
    pub attributes: BTreeMap<String, String>,
    /// The linked traces.
    pub links: Vec<String>,
    pub failed: bool,
}

impl Span {
    pub fn attribute(&self, name: &str) -> &str {
        let value = self.attributes.get(name);
        value.unwrap_or_else(|| panic!("{} has no {name}: {:?}", self.name, self.attributes))
    }
}

#[derive(Default)]
struct Collected {
    spans: Vec<Span>,
    webhooks: Vec<String>,
}

#[derive(Clone)]
pub struct Collector {
    taken: Arc<Mutex<Collected>>,
    pub url: String,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let collector = Self { taken: Arc::default(), url };
        let router = Router::new()
            .route("/v1/traces", post(take))
            .route("/webhook", post(take_webhook))
            .with_state(collector.clone());
        tokio::spawn(async { axum::serve(listener, router).await });
        collector
    }

    pub fn spans(&self) -> Vec<Span> {
        self.taken.lock().unwrap().spans.clone()
    }

    /// The `traceparent` of each received webhook.
    pub fn webhooks(&self) -> Vec<String> {
        self.taken.lock().unwrap().webhooks.clone()
    }
}

async fn take(State(collector): State<Collector>, body: Bytes) -> Vec<u8> {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for of_process in request.resource_spans {
        let resource = attributes(&of_process.resource.unwrap_or_default().attributes);
        let spans = of_process.scope_spans.into_iter().flat_map(|scope| scope.spans);
        let spans = spans.map(|span| read(resource["service.name"].clone(), span));
        collector.taken.lock().unwrap().spans.extend(spans);
    }
    if let Some(logs) = std::env::var_os("HOLDFAST_TEST_LOGS") {
        let spans = format!("{:#?}", collector.spans());
        let name = format!("spans-{}.log", collector.url.rsplit(':').next().unwrap());
        std::fs::write(std::path::Path::new(&logs).join(name), spans).unwrap();
    }
    ExportTraceServiceResponse::default().encode_to_vec()
}

async fn take_webhook(State(collector): State<Collector>, headers: HeaderMap) {
    let traceparent = headers.get("traceparent").map(|value| value.to_str().unwrap().to_owned());
    collector.taken.lock().unwrap().webhooks.push(traceparent.unwrap_or_default());
}

fn read(service: String, span: v1::Span) -> Span {
    Span {
        service,
        kind: span.kind(),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        attributes: attributes(&span.attributes),
        links: span.links.iter().map(|link| hex(&link.trace_id)).collect(),
        failed: span.status.is_some_and(|status| status.code == 2),
        name: span.name,
    }
}

fn attributes(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let value = |attribute: &KeyValue| attribute.value.as_ref()?.value.as_ref().map(text);
    for attribute in attributes {
        let is_number = ["status_code", ".port", ".size", ".count"];
        if is_number.iter().any(|end| attribute.key.ends_with(end)) {
            let value = attribute.value.as_ref().and_then(|value| value.value.as_ref());
            assert!(matches!(value, Some(Value::IntValue(_))), "{attribute:?}");
        }
    }
    attributes
        .iter()
        .map(|attribute| (attribute.key.clone(), value(attribute).unwrap_or_default()))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
