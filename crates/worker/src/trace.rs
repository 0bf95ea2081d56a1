//! The trace of an order in the worker: received, claimed, fulfilled, committed.
//!
//! Most orders are not sampled; nothing here does anything for them. Claims and commits cover many orders, so their spans
//! are created afterwards, in the trace of each sampled order.

use std::time::{Instant, SystemTime};

use holdfast_queue::Delivery;
use holdfast_store::fulfilment::{AttemptResult, Claim};
use holdfast_telemetry::{
    propagation,
    traces::{self, Decision, SpanClock},
};
use opentelemetry::{
    Context, KeyValue,
    trace::{Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _},
};
use tracing::Span;

/// The times of one round of reading and claiming.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundTimes {
    pub received: Instant,
    pub claimed: Instant,
    /// The number of claimed orders.
    pub orders: usize,
}

/// The trace of an order in flight. Its span ends when this is dropped.
pub(crate) struct JobTrace(Context);

impl JobTrace {
    /// Continues the trace of the message, if it has one.
    pub fn begin(delivery: &Delivery, claim: &Claim, times: RoundTimes) -> Option<Box<Self>> {
        let traceparent = delivery.job.trace_context.as_deref()?;
        let tracer = traces::tracer()?;
        let Decision::Sampled(publish) = traces::begin(Some(traceparent)) else { return None };
        let clock = SpanClock::now();
        let received = clock.at(times.received);
        let process = SpanBuilder::from_name("process orders")
            .with_kind(SpanKind::Consumer)
            .with_start_time(received)
            .with_attributes([
                KeyValue::new("messaging.system", "redis"),
                KeyValue::new("messaging.operation.type", "process"),
                KeyValue::new("messaging.operation.name", "process"),
                KeyValue::new("messaging.consumer.group.name", "fulfilment"),
                KeyValue::new("holdfast.order.id", claim.order_id.0),
                KeyValue::new("holdfast.order.tries", i64::from(claim.tries)),
            ]);
        let process = publish.with_span(tracer.build_with_context(process, &publish));

        // From the time at which it was published, to show how long it waited. The hosts' clocks may differ.
        let since = delivery.published_at().filter(|since| *since < received).unwrap_or(received);
        let waited = received.duration_since(since).unwrap_or_default();
        let receive = SpanBuilder::from_name("receive orders")
            .with_kind(SpanKind::Consumer)
            .with_start_time(since)
            .with_attributes([
                KeyValue::new("messaging.system", "redis"),
                KeyValue::new("messaging.operation.type", "receive"),
                KeyValue::new("messaging.operation.name", "XREADGROUP"),
                KeyValue::new("holdfast.queue.wait_ms", waited.as_secs_f64() * 1000.0),
            ]);
        tracer.build_with_context(receive, &process).end_with_timestamp(received);

        let trace = Self(process);
        trace.database("claim", "UPDATE", received, clock.at(times.claimed), times.orders);
        Some(Box::new(trace))
    }

    /// The span of the fulfilment, which may contain other spans.
    pub fn fulfil(trace: Option<&Self>) -> Span {
        let Some(Self(process)) = trace else { return Span::none() };
        let span = tracing::info_span!("fulfil");
        propagation::set_parent(&span, process.clone());
        span
    }

    /// Records the outcome and its commit, and ends the trace.
    pub fn end(self, verdict: &AttemptResult, written: bool, begun: Instant, orders: usize) {
        let clock = SpanClock::now();
        let now = clock.at(Instant::now());
        self.database("commit", "UPDATE", clock.at(begun), now, orders);
        let span = self.0.span();
        let (outcome, failure) = match verdict {
            AttemptResult::Completed => ("completed", None),
            AttemptResult::Failed(reason) => ("failed", Some(reason)),
            AttemptResult::Retry(_, reason) => ("retry", Some(reason)),
            AttemptResult::Postponed(_, reason) => ("postponed", Some(reason)),
            AttemptResult::HandedBack => ("handed_back", None),
        };
        span.set_attribute(KeyValue::new("holdfast.outcome", outcome));
        if !written {
            span.set_attribute(KeyValue::new("error.type", "claim_lost"));
            span.set_status(Status::error("the claim was lost"));
        } else if let Some(reason) = failure {
            span.set_attribute(KeyValue::new("error.type", outcome));
            span.set_status(Status::error(reason.clone()));
        }
        span.end_with_timestamp(now);
    }

    fn database(
        &self,
        name: &'static str,
        operation: &'static str,
        begun: SystemTime,
        ended: SystemTime,
        orders: usize,
    ) {
        let Some(tracer) = traces::tracer() else { return };
        let span = SpanBuilder::from_name(name)
            .with_kind(SpanKind::Client)
            .with_start_time(begun)
            .with_attributes([
                KeyValue::new("db.system.name", "postgresql"),
                KeyValue::new("db.operation.name", operation),
                KeyValue::new("db.collection.name", "orders"),
                KeyValue::new("db.operation.batch.size", i64::try_from(orders).unwrap_or(i64::MAX)),
            ]);
        tracer.build_with_context(span, &self.0).end_with_timestamp(ended);
    }
}
