//! The rules for web pages of other origins (<https://fetch.spec.whatwg.org/#http-cors-protocol>).

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::CorsLayer;

use super::request_id::X_REQUEST_ID;
use crate::{idempotency, request::PREFER};

/// How long a browser may cache a preflight answer.
const REMEMBERED: Duration = Duration::from_hours(1);

/// Allows pages of these origins, which may also send the `further` headers; `None` if there are no origins. Credentials
/// are not allowed, because the API uses no cookies.
pub fn cors<'o>(
    origins: impl IntoIterator<Item = &'o str>,
    further: &[HeaderName],
) -> Option<CorsLayer> {
    // The settings have checked that each origin is a valid header value.
    let origins: Vec<HeaderValue> =
        origins.into_iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    if origins.is_empty() {
        return None;
    }
    let sent = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        idempotency::HEADER,
        X_REQUEST_ID,
        PREFER,
        HeaderName::from_static("traceparent"),
        HeaderName::from_static("tracestate"),
        HeaderName::from_static("baggage"),
    ];
    let shown = [
        header::ETAG,
        header::LINK,
        header::LOCATION,
        header::RETRY_AFTER,
        idempotency::REPEATED,
        X_REQUEST_ID,
        HeaderName::from_static("ratelimit"),
        HeaderName::from_static("ratelimit-policy"),
    ];
    let layer = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers(sent.into_iter().chain(further.iter().cloned()).collect::<Vec<_>>())
        .expose_headers(shown)
        .max_age(REMEMBERED);
    Some(layer)
}
