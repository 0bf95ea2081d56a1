//! The OpenAPI document.

use utoipa::OpenApi as _;

use crate::{problem::ProblemSchema, routes};

/// The parts of the document that belong to no endpoint.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Holdfast",
        description = "Products with stock, and orders that take it.\n\n\
            Every error is an RFC 9457 problem (`application/problem+json`); its `type` leads to an \
            explanation, and `errors` names each wrong field of an invalid request. Every answer has \
            an `X-Request-Id`, the one of the request if it had one. An answer with `Retry-After` \
            changed nothing unless its `type` says otherwise.\n\n\
            Each path answers with and without a slash at its end.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "products", description = "What is sold, and how much of it is left"),
        (name = "orders", description = "Orders take stock at once, and are fulfilled by workers"),
        (name = "dead letters", description = "Orders that could not be fulfilled, and wait for somebody to replay or discard them"),
        (name = "health", description = "How this process is"),
    ),
    components(schemas(ProblemSchema)),
)]
struct Frame;

/// The document, as `GET /openapi.json` and `holdfast-api openapi` give it.
pub fn document() -> utoipa::openapi::OpenApi {
    let (_, endpoints) = routes::documented();
    let mut document = Frame::openapi();
    document.merge(endpoints);
    document
}
