//! `GET /products/{id}`

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use holdfast_cache::Tier;
use holdfast_domain::ProductId;
use holdfast_store::StoreError;
use holdfast_telemetry::traces;
use tracing::{Instrument as _, Span};

use crate::{
    app::App,
    etag::{self, Tag},
    problem::{Kind, Problem, ProblemSchema},
    products::{CachedProduct, ProductBody},
    routes::extract::PathId,
};

/// One product
///
/// Answered from a cache that every change passes on to. After an order's 201, the same server
/// shows its effect. With `If-None-Match`, what the client has already is not sent again.
#[utoipa::path(
    get, path = "/products/{id}", tag = "products", operation_id = "get_product",
    params(
        ("id" = i64, Path, description = "The product's id"),
        ("If-None-Match" = Option<String>, Header, description = "The ETag of what the client has"),
    ),
    responses(
        (status = 200, description = "The product", body = ProductBody,
            headers(("ETag" = String, description = "Names the product as it is now"))),
        (status = 304, description = "It is as If-None-Match has it"),
        (status = 404, description = "There is no such product, or it is no longer sold",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "The id is no whole number",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "The database is busy or away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn get(
    State(app): State<App>,
    PathId(id): PathId,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if id < 1 {
        return Err(Problem::unknown_product(id));
    }
    let request = if traces::active() { Span::current() } else { Span::none() };
    let load = || {
        let loading = async {
            let product = app.store.product(ProductId(id)).await?;
            Ok::<_, StoreError>(product.map(CachedProduct::from))
        };
        loading.instrument(query_span(&request))
    };
    let hit = app.cache.get(id, load).await.map_err(|error| not_loaded(&error))?;
    let hit = hit.ok_or_else(|| Problem::unknown_product(id))?;
    request.record("holdfast.cache.tier", tier(hit.tier));
    let tag = Tag::new(hit.version, &hit.body);
    let mut response = if etag::is_known(&headers, &tag) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let mut response = Response::new(Body::from(hit.body));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    };
    response.headers_mut().insert(header::ETAG, tag.header());
    Ok(response)
}

/// The span of the query for a product, within that of a request that has one.
fn query_span(request: &Span) -> Span {
    if request.is_none() {
        return Span::none();
    }
    tracing::info_span!(
        parent: request,
        "SELECT products",
        otel.kind = "client",
        db.system.name = "postgresql",
        db.operation.name = "SELECT",
        db.collection.name = "products",
    )
}

fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Process => "process",
        Tier::Redis => "redis",
        Tier::None => "none",
    }
}

fn not_loaded(error: &holdfast_cache::LoadError) -> Problem {
    let kind = error.downcast_ref::<StoreError>().map_or(Kind::Internal, Problem::kind_of);
    Problem::new(kind).because(Shared(Arc::clone(error)))
}

/// An error that other callers were given too.
#[derive(Debug, thiserror::Error)]
#[error("the product could not be loaded")]
struct Shared(#[source] Arc<dyn std::error::Error + Send + Sync>);
