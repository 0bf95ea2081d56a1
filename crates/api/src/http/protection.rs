//! Security headers for browsers, as recommended in OWASP's REST security cheat sheet:
//! <https://cheatsheetseries.owasp.org/cheatsheets/REST_Security_Cheat_Sheet.html>.
//!
//! `Strict-Transport-Security` is not included: a proxy in front of this server terminates TLS, and knows the names for
//! which the header is correct.

use axum::http::{HeaderMap, HeaderValue, header};

use super::Route;

/// For API answers, which load nothing and are not embedded.
const NOTHING: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
/// For Swagger UI, which has images in its style sheet and inline styles.
const OWN_PAGE: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
);
/// For the console, which loads its own files and calls its own server.
const CONSOLE: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// The content type must not be guessed.
const NO_SNIFFING: HeaderValue = HeaderValue::from_static("nosniff");
/// Other sites must not see addresses of this server.
const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");

/// Adds the headers to an answer.
pub(super) fn protect(headers: &mut HeaderMap, route: Route) {
    let policy = match route {
        Route::DOCS => OWN_PAGE,
        Route::CONSOLE => CONSOLE,
        _ => NOTHING,
    };
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NO_SNIFFING);
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    if matches!(route, Route::DOCS | Route::CONSOLE) {
        headers.insert(header::REFERRER_POLICY, NO_REFERRER);
    }
}
