//! The spans of publishing, from which the trace of an order continues in the worker.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use holdfast_telemetry::{
    propagation,
    traces::{self, Decision},
};
use opentelemetry::{
    Context, KeyValue,
    trace::{SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _},
};

use crate::{Job, QueueError, keys::STREAM};

/// The spans of a call that publishes, by the index of their job. Most jobs have none.
pub(crate) struct Publishing(Vec<(usize, Context, String)>);

impl Publishing {
    /// Begins the span of each sampled job.
    pub fn begin(jobs: &[Job]) -> Self {
        let spans = jobs.iter().enumerate().filter_map(|(index, job)| {
            // Most jobs have no trace context.
            let traceparent = job.trace_context.as_deref()?;
            let tracer = traces::tracer()?;
            let Decision::Sampled(parent) = traces::begin(Some(traceparent)) else { return None };
            let span = SpanBuilder::from_name("publish orders")
                .with_kind(SpanKind::Producer)
                .with_attributes([
                    KeyValue::new("messaging.system", "redis"),
                    KeyValue::new("messaging.operation.type", "send"),
                    KeyValue::new("messaging.operation.name", "XADD"),
                    KeyValue::new("messaging.destination.name", STREAM),
                    KeyValue::new("holdfast.order.id", job.order_id),
                ]);
            let span = parent.with_span(tracer.build_with_context(span, &parent));
            let traceparent = propagation::traceparent(&span)?;
            Some((index, span, traceparent))
        });
        Self(spans.collect())
    }

    /// The context of each job: that of its span, or the one that it already had.
    pub fn contexts<'a>(&'a self, jobs: &'a [Job]) -> impl Iterator<Item = Option<&'a str>> {
        let mut spans = self.0.iter().peekable();
        jobs.iter().enumerate().map(move |(index, job)| {
            match spans.next_if(|(its, ..)| *its == index) {
                Some((_, _, traceparent)) => Some(traceparent.as_str()),
                None => job.trace_context.as_deref(),
            }
        })
    }

    /// Ends the spans.
    pub fn end(self, published: &Result<(), QueueError>) {
        for (_, span, _) in self.0 {
            let span = span.span();
            if let Err(error) = published {
                span.set_status(Status::Error { description: Cow::Owned(error.to_string()) });
            }
            span.end();
        }
    }
}

/// When an entry was published, by Redis's clock: the first half of its id.
pub(crate) fn published_at(entry_id: &str) -> Option<SystemTime> {
    let millis = entry_id.split('-').next()?.parse().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}
