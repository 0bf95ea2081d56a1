//! Refuses parameters and bodies that an endpoint does not have, because ignoring them could change the meaning of a
//! request.
//!
//! If an unknown filter were ignored, a list would show everything. If a body were ignored, a request to cancel one line
//! would cancel the whole order.

use std::time::Duration;

use axum::{body::Body, http::Request};
use hyper::body::Body as _;

use super::route::Takes;
use crate::problem::{FieldError, Problem};

/// The longest body that counts as empty, such as `{}`.
const EMPTY_MAX: usize = 64;
/// The most unknown parameters that one answer names.
const NAMED_MAX: usize = 20;
/// The longest name in an answer, in bytes.
const SHOWN_NAME_BYTES: usize = 64;

/// Refuses unknown query parameters, and a body if the endpoint has none. Waits for the body until `limit`.
///
/// # Errors
/// 422, with the known names.
pub async fn check(
    request: Request<Body>,
    takes: &Takes,
    limit: Duration,
) -> Result<Request<Body>, Problem> {
    if let Some(query) = request.uri().query() {
        check_query(query, &takes.query)?;
    }
    if takes.body || request.body().is_end_stream() {
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    let read = tokio::time::timeout(limit, axum::body::to_bytes(body, EMPTY_MAX)).await;
    let says_nothing = read.ok().and_then(Result::ok).is_some_and(|body| {
        let bare = body.iter().filter(|byte| !byte.is_ascii_whitespace());
        matches!(&*bare.copied().collect::<Vec<_>>(), b"" | b"{}" | b"null")
    });
    if says_nothing {
        return Ok(Request::from_parts(parts, Body::empty()));
    }
    Err(Problem::body("must be empty, because this operation has no body").and_close())
}

fn check_query(query: &str, known: &[String]) -> Result<(), Problem> {
    let mut errors: Vec<FieldError> = Vec::new();
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        let name = &name[..name.floor_char_boundary(SHOWN_NAME_BYTES)];
        if known.iter().any(|known| known == name) || errors.iter().any(|error| error.field == name)
        {
            continue;
        }
        errors.push(FieldError::unknown_parameter(name.to_owned(), known));
        if errors.len() == NAMED_MAX {
            break;
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::validation(errors)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(body: bool) -> Takes {
        Takes { query: vec!["limit".to_owned(), "status".to_owned()], body }
    }

    async fn wrong(uri: &str, body: &'static str, takes: &Takes) -> Vec<String> {
        let request = Request::builder().uri(uri).body(Body::from(body)).unwrap();
        match check(request, takes, Duration::from_secs(1)).await {
            Ok(_) => Vec::new(),
            Err(problem) => problem.fields().map(ToOwned::to_owned).collect(),
        }
    }

    #[tokio::test]
    async fn unknown_parameters_are_named() {
        for (uri, names) in [
            ("/orders", &[][..]),
            ("/orders?", &[]),
            ("/orders?limit=1&status=failed", &[]),
            ("/orders?limit=1&limit=2", &[]),
            ("/orders?li%6Dit=1", &[]),
            ("/orders?Limit=1&state=failed&state=x", &["Limit", "state"]),
            ("/orders?state", &["state"]),
            ("/orders?=1", &[""]),
        ] {
            assert_eq!(wrong(uri, "", &takes(false)).await, names, "{uri}");
        }
        let many: Vec<_> = (0..100).map(|number| format!("x{number}=1")).collect();
        let uri = format!("/orders?{}", many.join("&"));
        assert_eq!(wrong(&uri, "", &takes(false)).await.len(), NAMED_MAX);
    }

    #[tokio::test]
    async fn a_body_is_refused_if_the_endpoint_has_none() {
        for body in ["", " ", "{}", " { } \n", "null"] {
            assert!(wrong("/orders", body, &takes(false)).await.is_empty(), "{body:?}");
        }
        let long = "{                                                                           }";
        for body in [r#"{"items":[1]}"#, "[]", "0", "x", "\"\"", long] {
            assert_eq!(wrong("/orders", body, &takes(false)).await, ["body"], "{body:?}");
            assert!(wrong("/orders", body, &takes(true)).await.is_empty(), "{body:?}");
        }
    }
}
