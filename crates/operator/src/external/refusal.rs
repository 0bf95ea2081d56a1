//! Refusals, as Kubernetes's clients understand them: a `Status` object.

use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::json;

use super::{GROUP, json, target::Target, value::Metric};
use crate::{
    caller::Stranger,
    queues::{Source, Unknown},
    selector::SelectorError,
};

/// Why there is no answer. The message is for whoever asked: nothing internal is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    code: StatusCode,
    /// A word that clients decide by.
    reason: &'static str,
    message: String,
}

impl Refusal {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into() }
    }

    /// The HTTP status.
    pub fn code(&self) -> StatusCode {
        self.code
    }

    /// What is said to the caller.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Who asks is not known. Why is not told: who may speak for others is no stranger's affair.
    pub fn stranger(stranger: Stranger) -> Self {
        tracing::debug!(%stranger, "a request of nobody");
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    /// The caller may not have it.
    pub fn forbidden(user: &str, target: &Target) -> Self {
        let message = match target {
            Target::Metric { namespace, metric } => format!(
                "{metric}.{GROUP} is forbidden: User {user:?} cannot list resource {metric:?} in \
                 API group {GROUP:?} in the namespace {namespace:?}"
            ),
            _ => format!("forbidden: User {user:?} cannot get this path"),
        };
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// Whether the caller may have it cannot be found out.
    pub fn no_review() -> Self {
        let message = "whether you may have this could not be found out; try again later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    /// Too much is asked at the same time.
    pub fn busy() -> Self {
        let message = "too many questions at the same time; try again later";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
    }

    /// There is nothing at this path.
    pub fn no_such_path() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// Nothing can be changed or watched here.
    pub fn only_get() -> Self {
        let message = "external metrics can only be read, with GET and without watch";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    /// There is no such metric.
    pub fn no_metric(metric: &str) -> Self {
        let [depth, age] = Metric::ALL.map(Metric::name);
        let message = format!("there is no metric {metric:?}; there are {depth} and {age}");
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// The selector cannot be read.
    pub fn bad_selector(error: &SelectorError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", format!("labelSelector {error}"))
    }

    /// No queue is listed for it. An empty list would be taken for an error as well, and say less.
    pub fn no_queue(metric: Metric, namespace: &str) -> Self {
        let message = format!(
            "{}: no queue of namespace {namespace:?} has the labels that the selector asks for",
            metric.name()
        );
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// The number is not known now.
    pub fn unknown(metric: Metric, source: &Source, unknown: &Unknown) -> Self {
        let message = format!(
            "{} of queue {:?} of release {:?} is not known: {}",
            metric.name(),
            source.label("queue"),
            source.label("release"),
            unknown.sentence()
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    /// A bug.
    pub fn internal() -> Self {
        let message = "Internal error occurred";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// The answer with the `Status` object.
    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code.as_u16(),
        });
        let mut response = json(self.code, status.to_string().into_bytes());
        let headers = response.headers_mut();
        if self.code == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.code == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
        }
        response
    }
}
