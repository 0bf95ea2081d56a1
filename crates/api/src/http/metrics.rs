//! Requests by route, method and status class.
//!
//! The child of each label set is looked up once and kept, so that a request costs a few atomic
//! additions and hashes no label.

use std::sync::OnceLock;

use axum::http::{Method, StatusCode};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};
use tokio::time::Instant;

use super::Route;

/// The labels of methods; what is none of the first is counted as the last.
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "other"];

/// The labels of outcomes. `gone` is a client that did not wait for its answer.
const STATUSES: [&str; 6] = ["gone", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// From 100 µs to 10 s, with 250 ms among them: the promise of the latency objective is a bucket.
const LATENCY: [f64; 16] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// The metrics of the public port.
pub struct HttpMetrics {
    endpoints: [[Endpoint; METHODS.len()]; Route::ALL.len()],
    requests: IntCounterVec,
    seconds: HistogramVec,
    in_flight: IntGauge,
    /// Connections that are open.
    pub connections: IntGauge,
    /// Connections that were answered with 503 because too many were open.
    pub connections_refused: IntCounter,
}

#[derive(Default)]
struct Endpoint {
    requests: [OnceLock<IntCounter>; STATUSES.len()],
    seconds: OnceLock<Histogram>,
}

impl HttpMetrics {
    /// Makes and registers the metrics.
    ///
    /// # Errors
    /// A name is registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            endpoints: Default::default(),
            requests: IntCounterVec::new(
                Opts::new(
                    "holdfast_http_requests_total",
                    "Requests that were answered, or given up by the client (status gone).",
                ),
                &["route", "method", "status"],
            )?,
            seconds: HistogramVec::new(
                HistogramOpts::new(
                    "holdfast_http_request_seconds",
                    "Time from a request's headers to its answer.",
                )
                .buckets(LATENCY.to_vec()),
                &["route", "method"],
            )?,
            in_flight: IntGauge::new(
                "holdfast_http_requests_in_flight",
                "Requests that are being answered.",
            )?,
            connections: IntGauge::new(
                "holdfast_http_connections",
                "Connections that are open on the public port.",
            )?,
            connections_refused: IntCounter::new(
                "holdfast_http_connections_refused_total",
                "Connections that were refused with 503 or 429 because too many were open.",
            )?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.connections_refused.clone()))?;
        Ok(metrics)
    }

    /// Begins to count a request.
    pub fn begin(&self, route: Route, method: &Method) -> InFlight<'_> {
        self.in_flight.inc();
        let method = match *method {
            Method::GET => 0,
            Method::POST => 1,
            Method::PUT => 2,
            Method::DELETE => 3,
            _ => METHODS.len() - 1,
        };
        InFlight { metrics: self, route, method, status: 0, begun: Instant::now() }
    }
}

/// A request that is being answered. Dropped without an answer, it counts as given up.
pub struct InFlight<'m> {
    metrics: &'m HttpMetrics,
    route: Route,
    method: usize,
    status: usize,
    begun: Instant,
}

impl InFlight<'_> {
    /// Counts the answer.
    pub fn answered(mut self, status: StatusCode) {
        self.status = usize::from(status.as_u16() / 100).min(STATUSES.len() - 1);
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let Self { metrics, route, method, status, begun } = *self;
        metrics.in_flight.dec();
        let endpoint = &metrics.endpoints[route as usize][method];
        endpoint.requests[status]
            .get_or_init(|| {
                let labels = [route.template(), METHODS[method], STATUSES[status]];
                metrics.requests.with_label_values(&labels)
            })
            .inc();
        if status > 0 {
            endpoint
                .seconds
                .get_or_init(|| {
                    metrics.seconds.with_label_values(&[route.template(), METHODS[method]])
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
        let registry = Registry::new();
        let metrics = HttpMetrics::new(&registry).unwrap();
        metrics.begin(Route::Orders, &Method::POST).answered(StatusCode::CREATED);
        metrics.begin(Route::Orders, &Method::POST).answered(StatusCode::CREATED);
        metrics.begin(Route::Product, &Method::PATCH).answered(StatusCode::METHOD_NOT_ALLOWED);
        drop(metrics.begin(Route::Orders, &Method::POST));
        let waiting = metrics.begin(Route::Orders, &Method::GET);
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
}
