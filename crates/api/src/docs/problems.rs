//! Explanations of the kinds of problems, to which the `type` of a problem links.

use axum::{
    Json,
    http::{HeaderMap, HeaderValue, Uri, header},
    response::{Html, IntoResponse, Response},
};
use serde::Serialize;

use crate::problem::{Problem, ProblemKind};

/// A kind of problem.
#[derive(Serialize)]
pub struct ProblemExplanation {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    explanation: &'static str,
}

impl From<ProblemKind> for ProblemExplanation {
    fn from(kind: ProblemKind) -> Self {
        Self {
            r#type: kind.uri(),
            title: kind.title(),
            status: kind.status().as_u16(),
            explanation: kind.explanation(),
        }
    }
}

/// All kinds, for a browser or for a program.
pub async fn list(headers: HeaderMap) -> Response {
    if !is_for_a_person(&headers) {
        let all: Vec<_> = ProblemKind::ALL.iter().copied().map(ProblemExplanation::from).collect();
        return varying(Json(all));
    }
    let kinds = ProblemKind::ALL.iter().map(|kind| {
        let (uri, title) = (kind.uri().trim_start_matches('/'), kind.title());
        format!("<dt><a href=\"{uri}\">{title}</a></dt>\n<dd>{}</dd>\n", html(*kind))
    });
    let kinds: String = kinds.collect();
    varying(page("Problems", &format!("<h1>Problems</h1>\n<dl>\n{kinds}</dl>\n")))
}

/// One kind.
///
/// # Errors
/// The kind does not exist.
pub async fn get(uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let path = uri.path().strip_suffix('/').unwrap_or(uri.path());
    let kind = ProblemKind::ALL.iter().copied().find(|kind| kind.uri() == path);
    let kind = kind.ok_or_else(|| Problem::new(ProblemKind::NotFound))?;
    if !is_for_a_person(&headers) {
        return Ok(varying(Json(ProblemExplanation::from(kind))));
    }
    let (title, status) = (kind.title(), kind.status());
    let text = format!(
        "<h1>{title}</h1>\n<p>HTTP {status}, type <code>{path}</code></p>\n<p>{}</p>\n",
        html(kind)
    );
    Ok(varying(page(title, &text)))
}

/// Browsers send HTML in `Accept`; programs send JSON or nothing.
fn is_for_a_person(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

fn varying(answer: impl IntoResponse) -> Response {
    let mut answer = answer.into_response();
    answer.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    answer
}

fn page(title: &str, text: &str) -> Html<String> {
    Html(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>body {{ font: 1rem/1.5 sans-serif; max-width: 45rem; margin: 2rem auto; padding: 0 1rem }}</style>\n\
         </head>\n<body>\n{text}</body>\n</html>\n"
    ))
}

/// The explanation, with code in backticks.
fn html(kind: ProblemKind) -> String {
    let parts = kind.explanation().split('`').enumerate().map(|(at, part)| {
        let part = part.replace('&', "&amp;").replace('<', "&lt;");
        if at % 2 == 1 { format!("<code>{part}</code>") } else { part }
    });
    parts.collect()
}
