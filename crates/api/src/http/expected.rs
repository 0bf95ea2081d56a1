//! What a request brings that its endpoint does not take. It is refused: it could mean something else than what would be done.
//!
//! A query that is passed over shows all where a part was asked for, and a body that is passed over cancels a whole order
//! where a line was meant.

use std::time::Duration;

use axum::{body::Body, http::Request};
use hyper::body::Body as _;

use super::route::Takes;
use crate::problem::{FieldError, Problem};

/// The most bytes of a body that says nothing, such as `{}`.
const EMPTY_MAX: usize = 64;
/// The most unknown parameters that one answer names.
const NAMED_MAX: usize = 20;
/// The longest name that is shown back, in bytes.
const SHOWN_NAME_BYTES: usize = 64;

/// Refuses parameters of the query that the endpoint does not have, and a body if it takes none. A body that arrives is
/// waited for until `limit`.
///
/// # Errors
/// 422, with the names that there are.
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
    Err(Problem::body("must not be there: this operation takes none").and_close())
}

fn check_query(query: &str, known: &[String]) -> Result<(), Problem> {
    let mut errors: Vec<FieldError> = Vec::new();
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        let name = &name[..name.floor_char_boundary(SHOWN_NAME_BYTES)];
        if known.iter().any(|known| known == name) || errors.iter().any(|error| error.field == name)
        {
            continue;
        }
        errors.push(unknown(name.to_owned(), known));
        if errors.len() == NAMED_MAX {
            break;
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::validation(errors)) }
}

/// What is said of a parameter that an endpoint does not have.
pub fn unknown(name: String, known: &[String]) -> FieldError {
    let there_are = match known {
        [] => "there are none".to_owned(),
        known => format!("there are {}", known.join(", ")),
    };
    FieldError::new(name, format!("is no parameter of the query here; {there_are}"))
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
    async fn a_body_that_says_something_is_refused_where_none_is_taken() {
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
