//! The external metrics API, `external.metrics.k8s.io/v1beta1`, for the aggregator of the API server:
//! <https://github.com/kubernetes/metrics>.
//!
//! The HPA adds up the items of a list and ignores their age. So a list is either complete and current, or it is
//! refused; see `value`.

mod document;
pub mod metric;
mod refusal;
mod refusal_log;
mod response;
mod target;
mod value;

use std::{sync::Arc, time::Instant};

use holdfast_telemetry::{
    propagation::{self, TRACEPARENT},
    traces::{self, Decision},
};
use http::{HeaderMap, Method, Request, Response, header, request::Parts};
use http_body_util::Full;
use hyper::body::Bytes;
use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;
use tracing::{Instrument as _, Span};

use crate::{
    OperatorMetrics,
    caller::{Callers, access::AccessReviews},
    queues::Queues,
    selector::Selector,
};
use document::Aggregated;
use refusal::ExternalRefusal;
use refusal_log::RefusalLog;
use response::to_json;
use target::ResourcePath;

/// The maximum number of concurrent requests.
const QUESTIONS_MAX: usize = 64;

/// Serves the external metrics API.
pub struct ExternalMetrics {
    callers: Callers,
    access: AccessReviews,
    queues: Queues,
    metrics: OperatorMetrics,
    refusals: RefusalLog,
    permits: Semaphore,
}

impl ExternalMetrics {
    pub fn new(
        callers: Callers,
        access: AccessReviews,
        queues: Queues,
        metrics: OperatorMetrics,
    ) -> Self {
        let (refusals, permits) = (RefusalLog::default(), Semaphore::new(QUESTIONS_MAX));
        Self { callers, access, queues, metrics, refusals, permits }
    }

    /// The answer to a request on a connection with these client certificates. The body of a request is ignored.
    pub async fn answer<B>(
        &self,
        request: Request<B>,
        certificates: &Arc<[CertificateDer<'static>]>,
    ) -> Response<Full<Bytes>> {
        let begun = Instant::now();
        let (parts, _body) = request.into_parts();
        let target = ResourcePath::of(parts.uri.path());
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
        span.record("http.response.status_code", i64::from(response.status().as_u16()));
        let code = response.status().as_str().to_owned();
        self.metrics.requests.with_label_values(&[target.metric_label(), &code]).inc();
        self.metrics.seconds.observe(begun.elapsed().as_secs_f64());
        response
    }

    async fn ask(
        &self,
        question: Question<'_>,
        certificates: &[CertificateDer<'static>],
    ) -> Result<Response<Full<Bytes>>, ExternalRefusal> {
        let _permit = self.permits.try_acquire().map_err(|_| ExternalRefusal::busy())?;
        let user = self
            .callers
            .identify(certificates, question.headers)
            .await
            .map_err(ExternalRefusal::unauthenticated)?;
        let Some(review) = question.target.access_review() else {
            return Err(ExternalRefusal::no_such_path());
        };
        match self.access.may(&user, review).await {
            Ok(true) => {}
            Ok(false) => return Err(ExternalRefusal::forbidden(&user.name, question.target)),
            Err(error) => {
                let error = holdfast_telemetry::Chain(&error);
                tracing::warn!(%error, "an access review failed");
                return Err(ExternalRefusal::no_review());
            }
        }
        if question.method != Method::GET || question.asks_for("watch", &["true", "1"]) {
            return Err(ExternalRefusal::only_get());
        }
        match question.target {
            ResourcePath::Groups => match Aggregated::asked_for(question.headers) {
                Some(form) => {
                    let mut answer = to_json(&form.document());
                    answer.headers_mut().insert(header::CONTENT_TYPE, form.content_type());
                    Ok(answer)
                }
                None => Ok(to_json(&document::groups())),
            },
            ResourcePath::Group => Ok(to_json(&document::group())),
            ResourcePath::Version => Ok(to_json(&document::version())),
            ResourcePath::Metric { namespace, metric } => {
                let metric = metric.parse().map_err(|_| ExternalRefusal::no_metric(metric))?;
                let selector = Selector::parse(&question.parameter("labelSelector"))
                    .map_err(|error| ExternalRefusal::bad_selector(&error))?;
                let list =
                    value::list(&self.queues, metric, namespace, &selector, &self.metrics).await?;
                Ok(to_json(&list))
            }
            ResourcePath::Other => Err(ExternalRefusal::no_such_path()),
        }
    }
}

/// The span of a request whose trace is sampled; otherwise, no span.
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
    target: &'a ResourcePath,
    method: &'a Method,
    headers: &'a HeaderMap,
    query: &'a str,
}

impl Question<'_> {
    /// The first value of a parameter; empty if there is none.
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
