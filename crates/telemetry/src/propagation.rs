//! W3C trace context: <https://www.w3.org/TR/trace-context/>.

use std::collections::HashMap;

use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator as _},
    trace::TraceContextExt as _,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The name of the header, and of the field of a queued job, with the context.
pub const TRACEPARENT: &str = "traceparent";

struct One<'a>(&'a str);

impl Extractor for One<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

struct TraceparentFields(HashMap<String, String>);

impl Injector for TraceparentFields {
    fn set(&mut self, key: &str, value: String) {
        self.0.insert(key.to_owned(), value);
    }
}

/// The context of a `traceparent`. An invalid text is ignored, as the standard requires.
pub fn extract(traceparent: &str) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &One(traceparent))
}

/// Makes `span` a child of `parent`. Must be called before the span is entered.
pub fn set_parent(span: &tracing::Span, parent: Context) {
    // Fails for a disabled span, which needs no parent.
    let _ = span.set_parent(parent);
}

/// The `traceparent` of `span` for the next program; `None` if it is not sampled.
pub fn traceparent_of(span: &tracing::Span) -> Option<String> {
    if span.is_disabled() { None } else { traceparent(&span.context()) }
}

/// The `traceparent` of a context; `None` if it is not sampled.
pub fn traceparent(context: &Context) -> Option<String> {
    if !context.span().span_context().is_sampled() {
        return None;
    }
    let mut fields = TraceparentFields(HashMap::new());
    TraceContextPropagator::new().inject_context(context, &mut fields);
    fields.0.remove(TRACEPARENT)
}
