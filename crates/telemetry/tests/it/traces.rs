//! Traces over OTLP/HTTP, and the context that connects them. There is only one test, because a
//! process has one subscriber.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    sync::mpsc,
    time::{Duration, Instant},
};

use clap::Parser;
use holdfast_telemetry::{
    TelemetrySettings, init, propagation, registry,
    traces::{self, Decision},
};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    telemetry: TelemetrySettings,
}

/// Much longer than an export takes.
const LIMIT: Duration = Duration::from_secs(30);

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// Receives one export, and returns its path and body.
fn collector() -> (String, mpsc::Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (exported, exports) = mpsc::channel();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let (mut path, mut length) = (String::new(), 0);
        let mut line = String::new();
        while reader.read_line(&mut line).unwrap() > 2 {
            if path.is_empty() {
                line.split(' ').nth(1).unwrap().clone_into(&mut path);
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        exported.send((path, body)).unwrap();
    });
    (endpoint, exports)
}

#[test]
fn a_span_continues_the_callers_trace_and_is_exported() {
    let (endpoint, exports) = collector();
    let cli = Cli::try_parse_from(["test", &format!("--otlp-endpoint={endpoint}")]).unwrap();
    let guard = init("holdfast-test", &cli.telemetry).unwrap();
    assert!(guard.traces() && traces::active());

    let Decision::Sampled(parent) = traces::begin(Some(&format!("00-{TRACE}-{PARENT}-01"))) else {
        panic!("the caller's decision was not followed");
    };
    let span = tracing::info_span!(target: "holdfast_test", "request", otel.name = "GET /things");
    propagation::set_parent(&span, parent);
    let handed_on = propagation::traceparent_of(&span).unwrap();
    assert!(handed_on.starts_with(&format!("00-{TRACE}-")) && !handed_on.contains(PARENT));
    drop(span);

    let unsampled = traces::begin(Some(&format!("00-{TRACE}-{PARENT}-00")));
    let Decision::Unsampled(Some(id)) = unsampled else { panic!("{unsampled:?}") };
    assert_eq!(id.to_string(), TRACE);
    let garbage = traces::begin(Some("not a trace context"));
    let Decision::Sampled(parent) = garbage else { panic!("{garbage:?}") };
    assert_eq!(propagation::traceparent(&parent), None, "it has no parent");
    // Spans of libraries do not count for the sampling decision.
    drop(tracing::info_span!(target: "hyper", "of a library"));

    let begun = Instant::now();
    guard.shutdown(LIMIT);
    assert!(begun.elapsed() < LIMIT);
    let (path, body) = exports.recv_timeout(LIMIT).unwrap();
    assert_eq!(path, "/v1/traces");
    let holds = |part: &[u8]| body.windows(part.len()).any(|window| window == part);
    assert!(holds(b"GET /things") && holds(b"holdfast-test") && !holds(b"of a library"));
    let registry = registry("test", "1.2.3").unwrap();
    let page = registry.page().unwrap();
    assert!(page.contains("holdfast_trace_spans_total{outcome=\"sent\"} 1"), "{page}");
    let trace_id: Vec<u8> =
        (0..16).map(|at| u8::from_str_radix(&TRACE[2 * at..2 * at + 2], 16).unwrap()).collect();
    assert!(holds(&trace_id), "the caller's trace was not continued");
}
