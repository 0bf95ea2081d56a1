//! Refusals as `Status` objects, which clients of Kubernetes understand.

use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::json;

use super::{
    metric::{GROUP, Metric},
    response::json,
    target::ResourcePath,
};
use crate::{
    caller::NotIdentified,
    queues::{QueueUnavailable, ServedQueue},
    selector::SelectorError,
};

/// Why there is no answer. The message is sent to the caller, so it contains no internals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalRefusal {
    code: StatusCode,
    /// The reason code.
    reason: &'static str,
    message: String,
}

impl ExternalRefusal {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into() }
    }

    pub fn code(&self) -> StatusCode {
        self.code
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    /// The caller is unknown. The answer does not say why, because the trusted proxies are not public.
    pub fn unauthenticated(why: NotIdentified) -> Self {
        tracing::debug!(%why, "the caller was not identified");
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    pub fn forbidden(user: &str, target: &ResourcePath) -> Self {
        let message = match target {
            ResourcePath::Metric { namespace, metric } => format!(
                "{metric}.{GROUP} is forbidden: User {user:?} cannot list resource {metric:?} in \
                 API group {GROUP:?} in the namespace {namespace:?}"
            ),
            _ => format!("forbidden: User {user:?} cannot get this path"),
        };
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// The access review failed.
    pub fn no_review() -> Self {
        let message = "the access review failed; try again later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    pub fn busy() -> Self {
        let message = "too many requests at the same time; try again later";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
    }

    pub fn no_such_path() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    pub fn only_get() -> Self {
        let message = "external metrics can only be read, with GET and without watch";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    pub fn no_metric(metric: &str) -> Self {
        let [depth, age] = Metric::ALL.map(Metric::as_str);
        let message = format!("there is no metric {metric:?}; the metrics are {depth} and {age}");
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    pub fn bad_selector(error: &SelectorError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", format!("labelSelector {error}"))
    }

    /// No queue is listed for it. An empty list would also be an error for the HPA, but with less information.
    pub fn no_queue(metric: Metric, namespace: &str) -> Self {
        let message = format!(
            "{}: no queue of namespace {namespace:?} has the labels that the selector requires",
            metric.as_str()
        );
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    pub fn unknown(metric: Metric, source: &ServedQueue, unknown: &QueueUnavailable) -> Self {
        let message = format!(
            "{} of queue {:?} of release {:?} is not known: {}",
            metric.as_str(),
            source.label("queue"),
            source.label("release"),
            unknown.sentence()
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    pub fn into_response(self) -> Response<Full<Bytes>> {
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
