//! A log line, and what it says about the request that it is about.

use std::fmt;

use axum::http::HeaderValue;
use opentelemetry::{
    Context,
    trace::{TraceContextExt as _, TraceId},
};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{DefaultFields, Format, Full, Json, JsonFields, Writer},
    },
    registry::LookupSpan,
};

tokio::task_local! {
    /// What is being worked on. Set for as long as a request is: use [`scope`](tokio::task::LocalKey).
    pub static REQUEST: Request;
}

/// What log lines say about a request, wherever within its work they are written.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its id: printable ASCII.
    pub id: HeaderValue,
    /// Its trace, or that of its caller.
    pub trace_id: Option<TraceId>,
}

/// The ids that belong to a line.
#[derive(Debug, Default)]
struct Ids {
    request: Option<String>,
    trace: Option<String>,
    span: Option<String>,
}

impl Ids {
    fn current() -> Self {
        let mut ids = Context::map_current(|context| {
            let span = context.span().span_context().clone();
            if !span.is_valid() {
                return Self::default();
            }
            let (trace, span) = (span.trace_id().to_string(), span.span_id().to_string());
            Self { request: None, trace: Some(trace), span: Some(span) }
        });
        let _ = REQUEST.try_with(|request| {
            ids.request = request.id.to_str().ok().map(ToOwned::to_owned);
            if ids.trace.is_none() {
                ids.trace = request.trace_id.map(|id| id.to_string());
            }
        });
        ids
    }

    fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [("request_id", &self.request), ("trace_id", &self.trace), ("span_id", &self.span)]
            .into_iter()
            .filter_map(|(name, id)| Some((name, id.as_deref()?)))
    }
}

/// The crate's own formats, with the ids at the end of each line.
pub(crate) struct WithIds<F>(pub F);

pub(crate) type JsonLine = WithIds<Format<Json>>;
pub(crate) type PrettyLine = WithIds<Format<Full>>;

impl<S> FormatEvent<S, JsonFields> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let line = line(&self.0, context, event)?;
        writer.write_str(line.trim_end().strip_suffix('}').unwrap_or(&line))?;
        for (name, id) in Ids::current().named() {
            // As JSON: a request id may have quotes in it.
            write!(writer, r#","{name}":{}"#, serde_json::Value::from(id))?;
        }
        writer.write_str("}\n")
    }
}

impl<S> FormatEvent<S, DefaultFields> for PrettyLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, DefaultFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let line = line(&self.0, context, event)?;
        writer.write_str(line.trim_end())?;
        for (name, id) in Ids::current().named() {
            write!(writer, " {name}={id}")?;
        }
        writer.write_char('\n')
    }
}

fn line<F, S, N>(
    format: &F,
    context: &FmtContext<'_, S, N>,
    event: &Event<'_>,
) -> Result<String, fmt::Error>
where
    F: FormatEvent<S, N>,
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let mut line = String::with_capacity(256);
    format.format_event(context, Writer::new(&mut line), event)?;
    Ok(line)
}
