//! The format of a log line, with the ids of the current request.

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
    /// The current request. Set it for the duration of a request with [`scope`](tokio::task::LocalKey).
    pub static REQUEST: RequestContext;
}

/// What all log lines of a request contain.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// Printable ASCII.
    pub id: HeaderValue,
    /// The trace of the request or of its caller.
    pub trace_id: Option<TraceId>,
}

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

/// The formats of `tracing-subscriber`, with the ids at the end of each line.
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

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::{fmt::MakeWriter, layer::SubscriberExt as _};

    use super::*;

    #[derive(Clone, Default)]
    struct WrittenBytes(Arc<Mutex<Vec<u8>>>);

    impl Write for WrittenBytes {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for WrittenBytes {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn logged(
        subscriber: impl Subscriber + Send + Sync + 'static,
        written: &WrittenBytes,
    ) -> String {
        let id = HeaderValue::from_static(r#"a"b\c"#);
        let trace_id = Some(TraceId::from_bytes([7; 16]));
        tracing::subscriber::with_default(subscriber, || {
            REQUEST
                .sync_scope(RequestContext { id, trace_id }, || tracing::info!(units = 3, "sold"));
        });
        String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_in_json_is_valid_with_any_ids() {
        let written = WrittenBytes::default();
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(written.clone())
            .fmt_fields(JsonFields::new())
            .event_format(WithIds(Format::default().json().flatten_event(true)));
        let line = logged(tracing_subscriber::registry().with(lines), &written);
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&line["message"], &line["units"]), (&"sold".into(), &3.into()));
        assert_eq!(line["request_id"], r#"a"b\c"#);
        assert_eq!(line["trace_id"], "07070707070707070707070707070707");
    }

    #[test]
    fn a_pretty_line_ends_with_the_ids() {
        let written = WrittenBytes::default();
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(written.clone())
            .event_format(WithIds(Format::default().with_ansi(false)));
        let line = logged(tracing_subscriber::registry().with(lines), &written);
        let end = "sold units=3 request_id=a\"b\\c trace_id=07070707070707070707070707070707\n";
        assert!(line.ends_with(end), "{line}");
    }
}
