//! The OpenAPI document and Swagger UI. All addresses in the pages are relative, so that they work behind a proxy that
//! strips a prefix from the path.

pub mod problems;

use std::sync::{Arc, LazyLock};

use axum::{
    extract::{Extension, Path},
    http::{HeaderValue, header},
    response::{Html, IntoResponse, Redirect, Response},
};
use bytes::Bytes;
use utoipa_swagger_ui::{Config, SwaggerFile};

use crate::{
    encode::encode,
    endpoint::Surface,
    openapi::document,
    problem::{Problem, ProblemKind},
    public_base::PublicBase,
};

/// The server address in the document if the public URL is unknown: the folder of the document.
const RELATIVE: &str = ".";

static PUBLIC: LazyLock<RenderedDocument> =
    LazyLock::new(|| RenderedDocument::new(Surface::Public));
static ADMIN: LazyLock<RenderedDocument> = LazyLock::new(|| RenderedDocument::new(Surface::Admin));
static SWAGGER: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    let config = Config::from("../openapi.json");
    Arc::new(config.try_it_out_enabled(true).display_request_duration(true))
});

/// `GET /` and `GET /redoc`: redirect to the documentation.
pub async fn to_docs() -> Redirect {
    Redirect::temporary("/docs")
}

/// `GET /openapi.json`.
pub fn openapi(surface: Surface, base: Option<Extension<PublicBase>>) -> impl IntoResponse {
    let json = HeaderValue::from_static("application/json");
    let rendered = match surface {
        Surface::Public => &PUBLIC,
        Surface::Admin => &ADMIN,
    };
    let document = match base {
        Some(Extension(base)) => rendered.with_server(base.as_str()),
        None => rendered.with_server(RELATIVE),
    };
    ([(header::CONTENT_TYPE, json)], document)
}

/// A document that is rendered once, for any server address.
struct RenderedDocument {
    before: String,
    after: String,
}

impl RenderedDocument {
    /// The placeholder of the server address, which a document contains once.
    const SERVER: &str = "holdfast:server";

    fn new(surface: Surface) -> Self {
        let document = encode(&document(surface, Self::SERVER));
        let document = String::from_utf8_lossy(&document);
        let mark = format!("\"{}\"", Self::SERVER);
        let (before, after) = document.split_once(&mark).unwrap_or((&document, ""));
        Self { before: before.to_owned(), after: after.to_owned() }
    }

    fn with_server(&self, server: &str) -> Bytes {
        let server = encode(&server);
        [self.before.as_bytes(), &server, self.after.as_bytes()].concat().into()
    }
}

/// `GET /docs`: Swagger UI.
pub async fn page() -> Html<String> {
    Html(swagger("<base href=\"docs/\">"))
}

/// `GET /docs/`: the same.
pub async fn page_below() -> Html<String> {
    Html(swagger(""))
}

fn swagger(base: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n{base}\n<title>Holdfast API</title>\n\
         <link rel=\"stylesheet\" href=\"swagger-ui.css\">\n<link rel=\"stylesheet\" href=\"index.css\">\n\
         <link rel=\"icon\" type=\"image/png\" href=\"favicon-32x32.png\" sizes=\"32x32\">\n</head>\n<body>\n\
         <div id=\"swagger-ui\"></div>\n<script src=\"swagger-ui-bundle.js\"></script>\n\
         <script src=\"swagger-ui-standalone-preset.js\"></script>\n<script src=\"swagger-initializer.js\"></script>\n\
         </body>\n</html>\n"
    )
}

/// `GET /docs/{file}`: a file of Swagger UI.
///
/// # Errors
/// The file does not exist.
pub async fn file(Path(name): Path<String>) -> Result<Response, Problem> {
    if name == "index.html" {
        return Ok(page_below().await.into_response());
    }
    let file = utoipa_swagger_ui::serve(&name, Arc::clone(&SWAGGER));
    let file = file.ok().flatten().ok_or_else(|| Problem::new(ProblemKind::NotFound))?;
    let SwaggerFile { bytes, content_type, gzpipped, .. } = file;
    let content_type = HeaderValue::from_str(&content_type).map_err(Problem::internal)?;
    let mut answer = bytes.into_owned().into_response();
    answer.headers_mut().insert(header::CONTENT_TYPE, content_type);
    if gzpipped {
        let gzip = HeaderValue::from_static("gzip");
        answer.headers_mut().insert(header::CONTENT_ENCODING, gzip);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_names_the_server_and_is_otherwise_the_same() {
        for surface in [Surface::Public, Surface::Admin] {
            let rendered = RenderedDocument::new(surface);
            for server in [RELATIVE, "https://shop.example/api", "/a\"b"] {
                assert!(rendered.with_server(server) == encode(&document(surface, server)));
            }
        }
    }
}
