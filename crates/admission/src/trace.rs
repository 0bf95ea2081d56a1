//! The spans of a batch in the traces of its orders.
//!
//! They are created at the end of the batch, from times that the metrics need anyway, so a batch without a sampled
//! order creates no span and costs nothing. The trace of each sampled order gets its own spans (the wait in the lane
//! and the batch, which contains the lock wait, the write and the commit), and a link to the trace of the batch, which
//! links to its orders.

use std::time::Instant;

use holdfast_store::LockMode;
use holdfast_telemetry::{
    propagation,
    traces::{self, SpanClock},
};
use opentelemetry::{
    Context, KeyValue,
    global::BoxedTracer,
    trace::{
        Link, Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _,
        Tracer as _,
    },
};

use crate::pending::PendingRequest;

/// The most orders that the trace of a batch links to.
const LINKS_MAX: usize = 64;

/// The times of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchTimes {
    lane: &'static str,
    orders: usize,
    asked: Instant,
    /// When its rows were locked.
    pub locked: Option<Instant>,
    /// When it was written and its commit began.
    pub written: Option<Instant>,
    /// When its commit was answered.
    pub committed: Option<Instant>,
}

impl BatchTimes {
    /// A batch that is about to lock its rows.
    pub fn begin(mode: LockMode, orders: usize) -> Self {
        let lane = match mode {
            LockMode::Skip => "shared",
            LockMode::WaitFor(_) | LockMode::Wait => "own",
        };
        Self { lane, orders, asked: Instant::now(), locked: None, written: None, committed: None }
    }

    /// Adds spans to the traces of sampled requests. `failed` is the reason why the batch failed, from a bounded set.
    pub fn tell(&self, requests: &[PendingRequest], failed: Option<&'static str>) {
        let mut with_trace = requests
            .iter()
            .filter_map(|request| Some((request, request.trace_context()?)))
            .peekable();
        if with_trace.peek().is_none() {
            return;
        }
        let Some(tracer) = traces::tracer() else { return };
        let sampled: Vec<_> = with_trace
            .map(|(request, traceparent)| (request, propagation::extract(traceparent)))
            .collect();
        let spans = BatchSpans { tracer, clock: SpanClock::now(), times: self, failed };
        let orders = sampled.iter().take(LINKS_MAX).map(|(_, order)| link(order));
        let batch = spans.batch(&Context::new(), orders.collect());
        for (request, order) in &sampled {
            spans.lane_wait(request, order);
            spans.batch(order, vec![Link::with_context(batch.clone())]);
        }
    }
}

fn link(context: &Context) -> Link {
    Link::with_context(context.span().span_context().clone())
}

struct BatchSpans<'a> {
    tracer: &'static BoxedTracer,
    clock: SpanClock,
    times: &'a BatchTimes,
    failed: Option<&'static str>,
}

impl BatchSpans<'_> {
    fn lane_wait(&self, request: &PendingRequest, order: &Context) {
        let span = SpanBuilder::from_name("lane wait").with_attributes([
            KeyValue::new("holdfast.lane", self.times.lane),
            KeyValue::new("holdfast.lane.misses", i64::from(request.misses)),
        ]);
        self.span(span, request.arrived, self.times.asked, order);
    }

    /// The span of the batch, with its parts.
    fn batch(&self, parent: &Context, links: Vec<Link>) -> SpanContext {
        let BatchTimes { asked, locked, written, committed, .. } = *self.times;
        let orders = i64::try_from(self.times.orders).unwrap_or(i64::MAX);
        let span = SpanBuilder::from_name("batch")
            .with_start_time(self.clock.at(asked))
            .with_links(links)
            .with_attributes([
                KeyValue::new("holdfast.lane", self.times.lane),
                KeyValue::new("holdfast.batch.orders", orders),
            ]);
        let batch = parent.with_span(self.tracer.build_with_context(span, parent));
        let end = committed.or(written).or(locked).unwrap_or_else(Instant::now);
        let wait = locked.unwrap_or(end).saturating_duration_since(asked);
        let wait = KeyValue::new("holdfast.lock.wait_ms", wait.as_secs_f64() * 1000.0);
        let lock = database("lock wait", "SELECT", "products", Some(wait));
        self.span(lock, asked, locked.unwrap_or(end), &batch);
        if let (Some(locked), Some(written)) = (locked, written) {
            self.span(database("write", "INSERT", "orders", None), locked, written, &batch);
        }
        if let (Some(written), Some(committed)) = (written, committed) {
            self.span(database("commit", "COMMIT", "orders", None), written, committed, &batch);
        }
        let span = batch.span();
        if let Some(reason) = self.failed {
            span.set_attribute(KeyValue::new("error.type", reason));
            span.set_status(Status::error(reason));
        }
        span.end_with_timestamp(self.clock.at(end));
        span.span_context().clone()
    }

    fn span(&self, span: SpanBuilder, begun: Instant, ended: Instant, parent: &Context) {
        let span = span.with_start_time(self.clock.at(begun));
        self.tracer.build_with_context(span, parent).end_with_timestamp(self.clock.at(ended));
    }
}

fn database(
    name: &'static str,
    operation: &'static str,
    table: &'static str,
    more: Option<KeyValue>,
) -> SpanBuilder {
    let attributes = [
        KeyValue::new("db.system.name", "postgresql"),
        KeyValue::new("db.operation.name", operation),
        KeyValue::new("db.collection.name", table),
    ];
    SpanBuilder::from_name(name)
        .with_kind(SpanKind::Client)
        .with_attributes(attributes.into_iter().chain(more))
}
