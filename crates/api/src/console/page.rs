//! The page and its files, which are part of the program. They contain no secrets: the page loads its data from endpoints
//! that need a key.

use axum::{
    extract::Path,
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::problem::{Problem, ProblemKind};

type File = (&'static str, &'static str, &'static str);

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The files with their names and types.
const FILES: [File; 8] = [
    ("console.css", "text/css; charset=utf-8", include_str!("page/console.css")),
    ("console.js", SCRIPT, include_str!("page/console.js")),
    ("api.js", SCRIPT, include_str!("page/api.js")),
    ("decide.js", SCRIPT, include_str!("page/decide.js")),
    ("lists.js", SCRIPT, include_str!("page/lists.js")),
    ("numbers.js", SCRIPT, include_str!("page/numbers.js")),
    ("show.js", SCRIPT, include_str!("page/show.js")),
    ("icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];
const PAGE: File = ("", "text/html; charset=utf-8", include_str!("page/console.html"));

/// `GET /console`
pub async fn page() -> Response {
    answer(PAGE)
}

/// `GET /console/{name}`
pub async fn file(Path(name): Path<String>) -> Response {
    FILES
        .iter()
        .find(|file| file.0 == name)
        .map_or_else(|| Problem::new(ProblemKind::NotFound).into_response(), |file| answer(*file))
}

fn answer((_, media_type, text): File) -> Response {
    // So that an update of the server replaces them.
    let headers: [(HeaderName, &str); 2] =
        [(header::CONTENT_TYPE, media_type), (header::CACHE_CONTROL, "no-cache")];
    (StatusCode::OK, headers, text).into_response()
}
