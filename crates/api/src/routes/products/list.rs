//! `GET /products`

use axum::{Json, extract::State, http::Uri};
use holdfast_domain::ProductId;
use holdfast_store::ProductPage;

use crate::{
    app::App,
    problem::{Problem, ProblemSchema},
    products::ProductBody,
    query::Query,
};

/// The most products of one answer.
const LIMIT_MAX: i64 = 1000;
/// The most products that can be skipped, since each costs as much as reading it: beyond that,
/// `after` leads on.
const SKIP_MAX: i64 = 100_000;

/// The products on sale, by ascending id
///
/// For long lists, hand the last id of a page to `after` to get the next one. `skip` is for clients
/// that number their pages.
#[utoipa::path(
    get, path = "/products", tag = "products", operation_id = "list_products",
    params(
        ("skip" = Option<i64>, Query, minimum = 0, maximum = 100_000,
            description = "Leave out that many; 0 if not given"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1000,
            description = "At most that many; 100 if not given"),
        ("after" = Option<i64>, Query, minimum = 0,
            description = "Only products with a larger id"),
    ),
    responses(
        (status = 200, description = "The products", body = Vec<ProductBody>),
        (status = 422, description = "Parameters are wrong; all of them are named",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "The database is busy or away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn list(State(app): State<App>, uri: Uri) -> Result<Json<Vec<ProductBody>>, Problem> {
    let mut query = Query::read(uri.query());
    let skip = query.integer("skip", 0..=SKIP_MAX);
    let limit = query.integer("limit", 1..=LIMIT_MAX);
    let after = query.integer("after", 0..=i64::MAX);
    query.finish()?;
    let page = ProductPage {
        after: after.map(ProductId),
        skip: skip.unwrap_or(0),
        limit: limit.unwrap_or(100),
    };
    let products = app.store.products(&page).await?;
    Ok(Json(products.into_iter().map(ProductBody::from).collect()))
}
