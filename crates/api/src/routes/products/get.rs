//! `GET /products/{id}`

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use holdfast_cache::Tier;
use holdfast_domain::ProductId;
use holdfast_store::StoreError;
use holdfast_telemetry::traces;
use tracing::{Instrument as _, Span};

use crate::{
    access::Scope,
    app::App,
    endpoint::{Access, Answer, Description, ETAG, Endpoint, JsonOk, READS, Tag},
    etag::{IfNoneMatch, ProductTag},
    problem::{Problem, ProblemKind},
    products::{CachedProduct, ProductBody},
    request::Id,
};

pub(crate) const ENDPOINT: Endpoint = Endpoint {
    method: Method::GET,
    path: "/products/{id}",
    path_example: "3",
    access: Access::Customers(Scope::ProductsRead),
    tag: Tag::Products,
    operation_id: "get_product",
    summary: "Get a product",
    description: "The answer comes from a cache that every change updates. After an order's 201, the same server shows its \
                  effect. With `If-None-Match`, the answer is 304 if the client has the current version.",
    answer: "The product",
    headers: &[ETAG],
    problems: &[&[ProblemKind::NotFound], READS],
};

/// The product, or 304 if it has not changed.
pub(crate) struct ProductAnswer(Response);

pub(crate) async fn get(
    State(app): State<App>,
    id: Id<ProductId>,
    condition: IfNoneMatch,
) -> Result<ProductAnswer, Problem> {
    let id = id.0;
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
    let tag = ProductTag::new(hit.version, &hit.body);
    let mut response = if condition.is_known(&tag) {
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
    Ok(ProductAnswer(response))
}

impl IntoResponse for ProductAnswer {
    fn into_response(self) -> Response {
        self.0
    }
}

impl Answer for ProductAnswer {
    fn describe(description: &mut Description) {
        JsonOk::<ProductBody>::describe(description);
        description.answers.push((StatusCode::NOT_MODIFIED, None));
    }
}

/// The span of the query for a product, inside the span of its request if there is one.
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
    let kind = error.downcast_ref::<StoreError>().map_or(ProblemKind::Internal, Problem::kind_of);
    Problem::new(kind).because(SharedError(Arc::clone(error)))
}

/// An error that several callers share.
#[derive(Debug, thiserror::Error)]
#[error("the product could not be loaded")]
struct SharedError(#[source] Arc<dyn std::error::Error + Send + Sync>);
