//! The OpenAPI document, and Swagger UI to look at it.

pub mod problems;

use std::sync::LazyLock;

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Redirect},
};
use bytes::Bytes;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::{encode::encode, endpoint::Surface, openapi::document};

static PUBLIC: LazyLock<Bytes> = LazyLock::new(|| encode(&document(Surface::Public, "/")));
static ADMIN: LazyLock<Bytes> = LazyLock::new(|| encode(&document(Surface::Admin, "/")));

/// `GET /`: leads to the documentation.
pub async fn root() -> Redirect {
    Redirect::temporary("/docs/")
}

/// `GET /openapi.json`.
pub fn openapi(surface: Surface) -> impl IntoResponse {
    let json = HeaderValue::from_static("application/json");
    let document = match surface {
        Surface::Public => &PUBLIC,
        Surface::Admin => &ADMIN,
    };
    ([(header::CONTENT_TYPE, json)], Bytes::clone(document))
}

/// `GET /docs`.
pub fn swagger_ui() -> SwaggerUi {
    SwaggerUi::new("/docs").config(
        Config::from("/openapi.json").try_it_out_enabled(true).display_request_duration(true),
    )
}
