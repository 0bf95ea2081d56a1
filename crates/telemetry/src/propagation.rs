//! W3C trace context, in and out: <https://www.w3.org/TR/trace-context/>.

use std::collections::HashMap;

use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator as _},
    trace::TraceContextExt as _,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
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

/// The context that `traceparent` names. A text that is no trace context is ignored, as the
/// standard asks for.
pub fn extract(traceparent: &str) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &One(traceparent))
}

/// Makes `span` a child of `parent`. To be called before the span is entered.
pub fn set_parent(span: &tracing::Span, parent: Context) {
    // A disabled span has no place for a parent, and needs none.
    let _ = span.set_parent(parent);
}

/// The `traceparent` of `span`, to be handed on; `None` if it is not sampled, since what is not
/// recorded here need not be carried further.
pub fn traceparent_of(span: &tracing::Span) -> Option<String> {
    if span.is_disabled() { None } else { traceparent(&span.context()) }
}

/// The same of a context.
pub fn traceparent(context: &Context) -> Option<String> {
    if !context.span().span_context().is_sampled() {
        return None;
    }
    let mut fields = Fields(HashMap::new());
    TraceContextPropagator::new().inject_context(context, &mut fields);
    fields.0.remove(TRACEPARENT)
}
