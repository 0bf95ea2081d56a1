//! The span of a request that has a trace.

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use holdfast_telemetry::{
    propagation::{self, TRACEPARENT},
    traces::{self, Decision},
};
use opentelemetry::trace::{Status, TraceContextExt as _, TraceId};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{RequestId, Route};

/// The longest part of a path in a span. Spans wait in memory while the collector does not answer, and no path of an endpoint
/// is so long.
const PATH_BYTES: usize = 512;

/// The trace of a request, if it has one. Requests without a trace create no spans.
pub struct RequestTrace {
    span: Span,
    id: Option<TraceId>,
}

impl RequestTrace {
    /// Decides whether the request has a trace, and starts its span.
    pub fn begin(request: &Request<Body>, route: Route, id: &RequestId) -> Self {
        let traceparent = request.headers().get(TRACEPARENT);
        let parent = match traces::begin(traceparent.and_then(|value| value.to_str().ok())) {
            Decision::Unsampled(id) => return Self { span: Span::none(), id },
            Decision::Sampled(parent) => parent,
        };
        // The names follow OpenTelemetry's semantic conventions where possible.
        let span = tracing::info_span!(
            "request",
            otel.name = format!("{} {}", request.method(), route.label()),
            otel.kind = "server",
            http.request.method = %request.method(),
            http.route = route.label(),
            url.path = shown(request.uri().path()),
            url.scheme = "http",
            http.response.status_code = tracing::field::Empty,
            "error.type" = tracing::field::Empty,
            holdfast.cache.tier = tracing::field::Empty,
            holdfast.request_id = id.as_str(),
        );
        propagation::set_parent(&span, parent);
        let id = span.context().span().span_context().trace_id();
        Self { span, id: Some(id) }
    }

    pub fn span(&self) -> &Span {
        &self.span
    }

    /// The id of the trace, even if the caller decided not to sample it.
    pub fn id(&self) -> Option<TraceId> {
        self.id
    }

    /// Ends the span.
    pub fn end(self, status: StatusCode) {
        if self.span.is_none() {
            return;
        }
        // Only this type is exported as an integer.
        self.span.record("http.response.status_code", i64::from(status.as_u16()));
        // A client error is not an error of the server's span.
        if status.is_server_error() {
            self.span.record("error.type", status.as_str());
            self.span.set_status(Status::error(""));
        }
    }
}

fn shown(path: &str) -> &str {
    &path[..path.floor_char_boundary(PATH_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_only_the_beginning_of_a_long_path() {
        assert_eq!(shown("/orders/7"), "/orders/7");
        assert_eq!(shown(&"/é".repeat(8000)).len(), PATH_BYTES - 1);
    }
}
