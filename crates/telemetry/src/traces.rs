//! Traces: sampling, and the creation and export of spans.
//!
//! | file | subject |
//! |---|---|
//! | `settings` | the `OTEL_*` variables that are not left to the SDK |
//! | `endpoint` | the address of the collector |
//! | `exporter` | the bounded queue of spans |
//!
//! [`begin`] decides once per request whether it is traced, before any span is created. A request that is not traced creates
//! no spans, here and in other programs, because it passes on no context. So the SDK's own sampler accepts all spans.
//!
//! Spans are created in two ways. Work in one task is a `tracing` span. Work that many orders share (a batch, a claim of many
//! orders) gets its spans afterwards, with [`tracer`] and [`SpanClock`], from times that are taken anyway. A batch without a
//! sampled order does nothing for traces.

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

/// The instrumentation scope of our spans.
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

/// Whether spans are exported. If not, do not create any.
pub fn active() -> bool {
    ACTIVE.get().is_some()
}

/// The sampling decision about a request.
#[derive(Clone, Debug)]
pub enum Decision {
    /// No spans are created. Has the trace of the caller, if there is one.
    Unsampled(Option<TraceId>),
    /// Spans are created below this parent, which is empty or the caller's span.
    Sampled(Context),
}

/// Decides whether a request with this `traceparent` is traced, according to `OTEL_TRACES_SAMPLER`. An invalid text is
/// ignored, as the standard requires.
pub fn begin(traceparent: Option<&str>) -> Decision {
    let parent = traceparent.map(propagation::extract);
    let of_parent = parent.as_ref().map(|parent| parent.span().span_context().trace_id());
    let of_parent = of_parent.filter(|id| *id != TraceId::INVALID);
    let Some(active) = ACTIVE.get() else { return Decision::Unsampled(of_parent) };
    // The SDK's sampler decides by the id that the trace would have.
    let id = of_parent.unwrap_or_else(|| RandomIdGenerator::default().new_trace_id());
    let result = active.sampler.should_sample(parent.as_ref(), id, "", &SpanKind::Server, &[], &[]);
    match result.decision {
        SamplingDecision::RecordAndSample => Decision::Sampled(parent.unwrap_or_default()),
        _ => Decision::Unsampled(of_parent),
    }
}

/// Creates spans afterwards. `None` if spans are not exported.
pub fn tracer() -> Option<&'static BoxedTracer> {
    ACTIVE.get().map(|active| &active.tracer)
}

/// Converts times that were taken for metrics into those of spans.
#[derive(Clone, Copy, Debug)]
pub struct SpanClock {
    now: Instant,
    time: SystemTime,
}

impl SpanClock {
    pub fn now() -> Self {
        Self { now: Instant::now(), time: SystemTime::now() }
    }

    pub fn at(&self, moment: Instant) -> SystemTime {
        let ago = self.now.saturating_duration_since(moment);
        self.time.checked_sub(ago).unwrap_or(self.time)
    }
}
