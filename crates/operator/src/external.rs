//! The external metrics API, `external.metrics.k8s.io/v1beta1`, as the API server's aggregator
//! asks it: <https://github.com/kubernetes/metrics>.
//!
//! The HPA adds the items of a list up, and does not look at how old they are. So a list is whole
//! and of this moment, or it is refused: see [`value`].

mod document;
mod refusal;
mod refusal_log;
mod target;
pub mod value;

use std::{sync::Arc, time::Instant};

use holdfast_telemetry::{
    propagation::{self, TRACEPARENT},
    traces::{self, Decision},
};
use http::{HeaderMap, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::Full;
use hyper::body::Bytes;
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use tokio::sync::Semaphore;
use tracing::{Instrument as _, Span};

use crate::{
    OperatorMetrics,
    caller::{Callers, access::Access},
    queues::Queues,
    selector::Selector,
};
use document::Aggregated;
pub use refusal::Refusal;
use refusal_log::RefusalLog;
use target::Target;

/// The group of the API.
pub const GROUP: &str = "external.metrics.k8s.io";
/// Its version.
pub const VERSION: &str = "v1beta1";

/// The most questions that are answered at the same time.
const QUESTIONS_MAX: usize = 64;

/// Answers questions.
pub struct ExternalMetrics {
    callers: Callers,
    access: Access,
    queues: Queues,
    metrics: OperatorMetrics,
    refusals: RefusalLog,
    places: Semaphore,
}

impl ExternalMetrics {
    /// Answers from these parts.
    pub fn new(callers: Callers, access: Access, queues: Queues, metrics: OperatorMetrics) -> Self {
        let (refusals, places) = (RefusalLog::default(), Semaphore::new(QUESTIONS_MAX));
        Self { callers, access, queues, metrics, refusals, places }
    }

    /// The answer to a request that came over a connection with these client certificates. A
    /// request's body is not looked at.
    pub async fn answer<B>(
        &self,
        request: Request<B>,
        certificates: &Arc<[CertificateDer<'static>]>,
    ) -> Response<Full<Bytes>> {
        let begun = Instant::now();
        let (parts, _body) = request.into_parts();
        let target = Target::of(parts.uri.path());
        let span = span(&parts);
        let question = Question {
            target: &target,
            method: &parts.method,
            headers: &parts.headers,
            query: parts.uri.query().unwrap_or_default(),
        };
        let answered = self.ask(question, certificates).instrument(span.clone()).await;
        let response = match answered {
            Ok(answer) => answer,
            Err(refusal) => {
                span.in_scope(|| self.refusals.log(target.metric_label(), &refusal));
                refusal.into_response()
            }
        };
        span.record("http.response.status_code", response.status().as_u16());
        let code = response.status().as_str().to_owned();
        self.metrics.requests.with_label_values(&[target.metric_label(), &code]).inc();
        self.metrics.seconds.observe(begun.elapsed().as_secs_f64());
        response
    }

    async fn ask(
        &self,
        question: Question<'_>,
        certificates: &[CertificateDer<'static>],
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        let _place = self.places.try_acquire().map_err(|_| Refusal::busy())?;
        let user = self
            .callers
            .identify(certificates, question.headers)
            .await
            .map_err(Refusal::stranger)?;
        let Some(wish) = question.target.wish() else {
            return Err(Refusal::no_such_path());
        };
        match self.access.may(&user, wish).await {
            Ok(true) => {}
            Ok(false) => return Err(Refusal::forbidden(&user.name, question.target)),
            Err(error) => {
                let error = holdfast_telemetry::Chain(&error);
                tracing::warn!(%error, "an access could not be reviewed");
                return Err(Refusal::no_review());
            }
        }
        if question.method != Method::GET || question.asks_for("watch", &["true", "1"]) {
            return Err(Refusal::only_get());
        }
        match question.target {
            Target::Groups => match Aggregated::asked_for(question.headers) {
                Some(form) => {
                    let mut answer = to_json(&form.document())?;
                    answer.headers_mut().insert(header::CONTENT_TYPE, form.content_type());
                    Ok(answer)
                }
                None => to_json(&document::groups()),
            },
            Target::Group => to_json(&document::group()),
            Target::Version => to_json(&document::version()),
            Target::Metric { namespace, metric } => {
                let metric =
                    value::Metric::named(metric).ok_or_else(|| Refusal::no_metric(metric))?;
                let selector = Selector::parse(&question.parameter("labelSelector"))
                    .map_err(|error| Refusal::bad_selector(&error))?;
                to_json(
                    &value::list(&self.queues, metric, namespace, &selector, &self.metrics).await?,
                )
            }
            Target::Other => Err(Refusal::no_such_path()),
        }
    }
}

/// The span of a question that has a trace.
fn span(question: &Parts) -> Span {
    let traceparent = question.headers.get(TRACEPARENT).and_then(|at| at.to_str().ok());
    let Decision::Sampled(parent) = traces::begin(traceparent) else { return Span::none() };
    let span = tracing::info_span!(
        "external_metrics",
        otel.kind = "server",
        http.request.method = %question.method,
        url.path = question.uri.path(),
        http.response.status_code = tracing::field::Empty,
    );
    propagation::set_parent(&span, parent);
    span
}

struct Question<'a> {
    target: &'a Target,
    method: &'a Method,
    headers: &'a HeaderMap,
    query: &'a str,
}

impl Question<'_> {
    /// The first value of a parameter, or nothing.
    fn parameter(&self, name: &str) -> String {
        form_urlencoded::parse(self.query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
            .unwrap_or_default()
    }

    fn asks_for(&self, name: &str, values: &[&str]) -> bool {
        values.contains(&self.parameter(name).as_str())
    }
}

fn to_json(value: &impl Serialize) -> Result<Response<Full<Bytes>>, Refusal> {
    let body = serde_json::to_vec(value).map_err(|error| {
        tracing::error!(%error, "an answer could not be written");
        Refusal::internal()
    })?;
    Ok(json(StatusCode::OK, body))
}

fn json(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    // A number is of this moment.
    headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-cache, private"));
    response
}
