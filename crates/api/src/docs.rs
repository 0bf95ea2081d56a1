//! The OpenAPI document, and Swagger UI to look at it. All addresses in the pages are relative, so that they hold behind a
//! proxy that strips a prefix from the path.

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
    http::PublicBase,
    openapi::document,
    problem::{Problem, ProblemKind},
};

/// For who reaches the server without a base that is known: the folder of the document.
const RELATIVE: &str = ".";

static PUBLIC: LazyLock<Bytes> = LazyLock::new(|| encode(&document(Surface::Public, RELATIVE)));
static ADMIN: LazyLock<Bytes> = LazyLock::new(|| encode(&document(Surface::Admin, RELATIVE)));
static SWAGGER: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    let config = Config::from("../openapi.json");
    Arc::new(config.try_it_out_enabled(true).display_request_duration(true))
});

/// `GET /` and `GET /redoc`: lead to the documentation.
pub async fn to_docs() -> Redirect {
    Redirect::temporary("/docs")
}

/// `GET /openapi.json`.
pub fn openapi(surface: Surface, base: Option<Extension<PublicBase>>) -> impl IntoResponse {
    let json = HeaderValue::from_static("application/json");
    let document = match (base, surface) {
        (Some(Extension(base)), _) => encode(&document(surface, base.as_str())),
        (None, Surface::Public) => Bytes::clone(&PUBLIC),
        (None, Surface::Admin) => Bytes::clone(&ADMIN),
    };
    ([(header::CONTENT_TYPE, json)], document)
}

/// `GET /docs`: Swagger UI, whose files are below that.
pub async fn page() -> Html<String> {
    Html(swagger("<base href=\"docs/\">"))
}

/// `GET /docs/`: the same.
pub async fn page_below() -> Html<String> {
    Html(swagger(""))
}

fn swagger(base: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n{base}\n<title>Holdfast API</title>\n\
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
/// There is no such file.
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
