//! What web pages of other origins may do (<https://fetch.spec.whatwg.org/#http-cors-protocol>).

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::CorsLayer;

use super::request_id::X_REQUEST_ID;
use crate::idempotency;

/// How long a browser may remember that it was let in.
const REMEMBERED: Duration = Duration::from_hours(1);

/// Lets in pages of these origins; `None` if there are none. Never with cookies: nothing here goes by cookies.
pub fn cors<'o>(origins: impl IntoIterator<Item = &'o str>) -> Option<CorsLayer> {
    // What is no header cannot be an origin either; the settings have seen to that.
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
        HeaderName::from_static("traceparent"),
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
        .allow_headers(sent)
        .expose_headers(shown)
        .max_age(REMEMBERED);
    Some(layer)
}
