//! W3C trace context, in and out: <https://www.w3.org/TR/trace-context/>.

use std::collections::HashMap;

use opentelemetry::{
    Context,
    propagation::{Extractor, Injector},
};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The header, and the field of a queued job, that carries the context.
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

struct Fields(HashMap<String, String>);

impl Injector for Fields {
    fn set(&mut self, key: &str, value: String) {
        self.0.insert(key.to_owned(), value);
    }
}

/// Makes `span` a child of the span that `traceparent` names. A text that is no trace context is
/// ignored, as the standard asks for.
pub fn continue_trace(span: &tracing::Span, traceparent: &str) {
    let parent = opentelemetry::global::get_text_map_propagator(|propagator| {
        propagator.extract_with_context(&Context::new(), &One(traceparent))
    });
    // A disabled span has no place for a parent, and needs none.
    let _ = span.set_parent(parent);
}

/// The `traceparent` of `span`, to be handed on; `None` if it is not sampled, since what is not
/// recorded here need not be carried further.
pub fn traceparent_of(span: &tracing::Span) -> Option<String> {
    use opentelemetry::trace::TraceContextExt as _;

    let context = span.context();
    if !context.span().span_context().is_sampled() {
        return None;
    }
    let mut fields = Fields(HashMap::new());
    opentelemetry::global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&context, &mut fields);
    });
    fields.0.remove(TRACEPARENT)
}
