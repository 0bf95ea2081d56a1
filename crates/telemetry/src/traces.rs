//! Traces: which requests have one, and how their spans are made and sent.
//!
//! | file | subject |
//! |---|---|
//! | `settings` | the standard `OTEL_*` variables |
//! | `endpoint` | where traces go |
//! | `exporter` | the bounded queue, what is sent and what is dropped |
//!
//! **Whether** a request has a trace is decided once, by [`begin`], before any span is made: whoever
//! gets `None` makes no span at all, nor does anybody further on, since they are handed no context.
//! So the SDK's own sampler takes whatever comes to it.
//!
//! Spans come about in two ways. What runs in one task is a `tracing` span. What is shared by many
//! orders (a batch, a claim of many) is told afterwards, from the times that are taken anyway, with
//! [`tracer`] and [`Clock`]; a batch without a sampled order does nothing for its traces.

mod endpoint;
mod exporter;
pub mod settings;

use std::{
    sync::OnceLock,
    time::{Instant, SystemTime},
};

use opentelemetry::{
    Context,
    global::BoxedTracer,
    trace::{SpanKind, TraceContextExt as _, TraceId},
};
use opentelemetry_sdk::trace::{
    IdGenerator as _, RandomIdGenerator, Sampler, SamplingDecision, ShouldSample as _,
};

pub use endpoint::OtlpEndpoint;
pub(crate) use exporter::{metrics, provider};

use crate::propagation;

/// The name under which our spans are made.
pub(crate) const SCOPE: &str = "holdfast";

struct Active {
    sampler: Sampler,
    tracer: BoxedTracer,
}

static ACTIVE: OnceLock<Active> = OnceLock::new();

pub(crate) fn activate(sampler: Sampler) {
    // Only `init` calls this, and it succeeds once.
    let _ = ACTIVE.set(Active { sampler, tracer: opentelemetry::global::tracer(SCOPE) });
}

/// Whether spans go anywhere. If not, making them is a waste.
pub fn active() -> bool {
    ACTIVE.get().is_some()
}

/// What was decided about a request.
#[derive(Clone, Debug)]
pub enum Decision {
    /// No spans are to be made. Its caller's trace, if it has one.
    Unsampled(Option<TraceId>),
    /// Spans are to be made, below this parent: empty, or the caller's span.
    Sampled(Context),
}

/// Decides whether a request with this `traceparent` has a trace, by `OTEL_TRACES_SAMPLER`. A text
/// that is no trace context is ignored, as the standard asks for.
pub fn begin(traceparent: Option<&str>) -> Decision {
    let parent = traceparent.map(propagation::extract);
    let of_parent = parent.as_ref().map(|parent| parent.span().span_context().trace_id());
    let of_parent = of_parent.filter(|id| *id != TraceId::INVALID);
    let Some(active) = ACTIVE.get() else { return Decision::Unsampled(of_parent) };
    // The SDK's sampler, asked about the id that a new trace would have: by that it decides.
    let id = of_parent.unwrap_or_else(|| RandomIdGenerator::default().new_trace_id());
    let result = active.sampler.should_sample(parent.as_ref(), id, "", &SpanKind::Server, &[], &[]);
    match result.decision {
        SamplingDecision::RecordAndSample => Decision::Sampled(parent.unwrap_or_default()),
        _ => Decision::Unsampled(of_parent),
    }
}

/// Makes spans that are told afterwards. `None` if they would go nowhere.
pub fn tracer() -> Option<&'static BoxedTracer> {
    ACTIVE.get().map(|active| &active.tracer)
}

/// Turns the times that are taken for metrics into those of spans.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    now: Instant,
    time: SystemTime,
}

impl Clock {
    /// As of now.
    pub fn now() -> Self {
        Self { now: Instant::now(), time: SystemTime::now() }
    }

    /// When that was.
    pub fn at(&self, moment: Instant) -> SystemTime {
        let ago = self.now.saturating_duration_since(moment);
        self.time.checked_sub(ago).unwrap_or(self.time)
    }
}
