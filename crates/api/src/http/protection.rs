//! Headers that keep a browser from doing more with an answer than it is meant for, by OWASP's REST security
//! cheat sheet: <https://cheatsheetseries.owasp.org/cheatsheets/REST_Security_Cheat_Sheet.html>.
//!
//! `Strict-Transport-Security` is not among them: TLS ends before this server, at a proxy that
//! knows for which names it holds.

use axum::http::{HeaderMap, HeaderValue, header};

use super::Route;

/// An answer to a program has nothing to load, and is no part of a page.
const NOTHING: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
/// Swagger UI has its pictures in its style, and styles in its elements.
const OWN_PAGE: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
);
/// The console loads its own files and asks its own server.
const CONSOLE: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// What is JSON must never be run as anything else.
const NO_SNIFFING: HeaderValue = HeaderValue::from_static("nosniff");
/// Addresses of pages here are nobody else's concern.
const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");

/// Adds them to an answer.
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
