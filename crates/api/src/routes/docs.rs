//! The OpenAPI document, and Swagger UI to look at it.

use std::sync::LazyLock;

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Redirect},
};
use bytes::Bytes;
use utoipa_swagger_ui::{Config, SwaggerUi};

static DOCUMENT: LazyLock<Bytes> =
    LazyLock::new(|| crate::body::encode(&crate::openapi::document()));

/// `GET /`: whoever comes here wants to see what there is.
pub async fn root() -> Redirect {
    Redirect::temporary("/docs/")
}

/// `GET /openapi.json`.
pub async fn openapi() -> impl IntoResponse {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], DOCUMENT.clone())
}

/// `GET /docs`.
pub fn swagger_ui() -> SwaggerUi {
    SwaggerUi::new("/docs").config(
        Config::from("/openapi.json").try_it_out_enabled(true).display_request_duration(true),
    )
}
