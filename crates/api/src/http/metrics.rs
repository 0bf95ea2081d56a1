//! Requests by route, method and status class.
//!
//! The series of each label set is looked up once, so that a request costs a few atomic additions and no hashing of
//! labels.

use std::{ops::Deref, sync::OnceLock};

use axum::http::{Method, StatusCode};
use holdfast_telemetry::{
    Registry,
    metrics::{self, Histogram, IntCounter},
};
use tokio::time::Instant;

use super::Route;
use crate::byte_budget::ByteBudget;

/// The labels of methods. Unknown methods are counted as the last one.
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "other"];

/// The labels of outcomes. `gone` means that the client did not wait for its answer.
const STATUSES: [&str; 6] = ["gone", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// From 100 µs to 10 s. The target of the latency objective, 250 ms, is one of the buckets.
const LATENCY: [f64; 16] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

holdfast_telemetry::metrics! {
    /// The metrics of the public and the admin port.
    pub struct EdgeMetrics {
        /// Requests by outcome: the class of the status, or gone if the client disconnected before the answer.
        requests: IntCounterVec = "holdfast_http_requests_total" { route, method, status },
        /// Time from the headers of a request to its answer.
        seconds: HistogramVec = "holdfast_http_request_seconds" { route, method } [LATENCY],
        /// Requests in progress.
        in_flight: IntGauge = "holdfast_http_requests_in_flight",
        /// Open connections.
        pub connections: IntGauge = "holdfast_http_connections",
        /// Connections that were refused with 503 or 429 because too many were open.
        pub connections_refused: IntCounter = "holdfast_http_connections_refused_total",
        /// Connections that were closed to make room for new ones because HOLDFAST_MAX_CONNECTIONS were open. The
        /// connection that has waited longest for its client is closed first, and never one with a request in progress.
        pub connections_evicted: IntCounter = "holdfast_http_connections_evicted_total",
        /// Memory in use by unanswered requests (HOLDFAST_REQUEST_BUFFER_BYTES) and unread answers
        /// (HOLDFAST_ANSWER_BUFFER_BYTES).
        "holdfast_http_buffered_bytes" by budget {
            requests_buffered: IntGauge = "requests",
            answers_buffered: IntGauge = "answers",
        },
        /// Requests and answers that were refused with 503 because they did not fit into their memory budget.
        "holdfast_http_buffer_refused_total" by budget {
            requests_unbuffered: IntCounter = "requests",
            answers_unbuffered: IntCounter = "answers",
        },
    }
}

/// The metrics of HTTP, with the series of each endpoint.
pub struct HttpMetrics {
    /// By route and method.
    endpoints: Vec<[EndpointMetrics; METHODS.len()]>,
    edge: EdgeMetrics,
}

impl Deref for HttpMetrics {
    type Target = EdgeMetrics;

    fn deref(&self) -> &EdgeMetrics {
        &self.edge
    }
}

#[derive(Default)]
struct EndpointMetrics {
    requests: [OnceLock<IntCounter>; STATUSES.len()],
    seconds: OnceLock<Histogram>,
}

impl HttpMetrics {
    /// Creates and registers the metrics.
    ///
    /// # Errors
    /// A name is already registered.
    pub fn new(registry: &Registry) -> Result<Self, metrics::Error> {
        let endpoints = (0..Route::count()).map(|_| Default::default()).collect();
        Ok(Self { endpoints, edge: EdgeMetrics::new(registry)? })
    }

    /// Exports the charges of the budgets of requests and answers, and counts their refusals.
    pub fn watch(
        &self,
        registry: &Registry,
        requests: &'static ByteBudget,
        answers: &'static ByteBudget,
    ) {
        let edge = self.edge.clone();
        requests.count_refusals(&edge.requests_unbuffered);
        answers.count_refusals(&edge.answers_unbuffered);
        registry.before_each_page(move || {
            let bytes = |budget: &ByteBudget| i64::try_from(budget.used()).unwrap_or(i64::MAX);
            edge.requests_buffered.set(bytes(requests));
            edge.answers_buffered.set(bytes(answers));
        });
    }

    /// Counts the start of a request.
    pub fn begin(&self, route: Route, method: &Method) -> RequestInFlight<'_> {
        self.in_flight.inc();
        let method = match *method {
            Method::GET => 0,
            Method::POST => 1,
            Method::PUT => 2,
            Method::DELETE => 3,
            _ => METHODS.len() - 1,
        };
        RequestInFlight { metrics: self, route, method, status: 0, begun: Instant::now() }
    }
}

/// A request in progress. If it is dropped without an answer, it counts as `gone`.
pub struct RequestInFlight<'m> {
    metrics: &'m HttpMetrics,
    route: Route,
    method: usize,
    status: usize,
    begun: Instant,
}

impl RequestInFlight<'_> {
    /// Counts the answer.
    pub fn answered(mut self, status: StatusCode) {
        self.status = usize::from(status.as_u16() / 100).min(STATUSES.len() - 1);
    }
}

impl Drop for RequestInFlight<'_> {
    fn drop(&mut self) {
        let Self { metrics, route, method, status, begun } = *self;
        metrics.in_flight.dec();
        let endpoint = &metrics.endpoints[route.index()][method];
        endpoint.requests[status]
            .get_or_init(|| {
                let labels = [route.label(), METHODS[method], STATUSES[status]];
                metrics.requests.with_label_values(&labels)
            })
            .inc();
        if status > 0 {
            endpoint
                .seconds
                .get_or_init(|| {
                    metrics.seconds.with_label_values(&[route.label(), METHODS[method]])
                })
                .observe(begun.elapsed().as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_method_and_outcome() {
        let registry = Registry::default();
        let metrics = HttpMetrics::new(&registry).unwrap();
        metrics.begin(Route::of("/orders"), &Method::POST).answered(StatusCode::CREATED);
        metrics.begin(Route::of("/orders"), &Method::POST).answered(StatusCode::CREATED);
        metrics
            .begin(Route::of("/products/7"), &Method::PATCH)
            .answered(StatusCode::METHOD_NOT_ALLOWED);
        drop(metrics.begin(Route::of("/orders"), &Method::POST));
        let waiting = metrics.begin(Route::of("/orders"), &Method::GET);
        assert_eq!(metrics.in_flight.get(), 1);
        drop(waiting);

        let count = |labels: [&str; 3]| metrics.requests.with_label_values(&labels).get();
        assert_eq!(count(["/orders", "POST", "2xx"]), 2);
        assert_eq!(count(["/orders", "POST", "gone"]), 1);
        assert_eq!(count(["/products/{id}", "other", "4xx"]), 1);
        let timed = metrics.seconds.with_label_values(&["/orders", "POST"]).get_sample_count();
        assert_eq!(timed, 2);
        assert_eq!(metrics.in_flight.get(), 0);
    }

    #[test]
    fn budgets_are_shown_and_their_refusals_counted() {
        let registry = Registry::default();
        let metrics = HttpMetrics::new(&registry).unwrap();
        let (requests, answers) = (ByteBudget::leak(10), ByteBudget::leak(10));
        metrics.watch(&registry, requests, answers);
        let mut charge = answers.charge();
        charge.resize(7).unwrap();
        charge.resize(11).unwrap_err();
        let page = registry.page().unwrap();
        for line in [
            "holdfast_http_buffered_bytes{budget=\"answers\"} 7\n",
            "holdfast_http_buffered_bytes{budget=\"requests\"} 0\n",
            "holdfast_http_buffer_refused_total{budget=\"answers\"} 1\n",
        ] {
            assert!(page.contains(line), "no {line} in\n{page}");
        }
    }
}
