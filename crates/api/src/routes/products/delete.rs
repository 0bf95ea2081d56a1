//! `DELETE /products/{id}`

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};
use holdfast_domain::ProductId;

use crate::{
    app::App,
    etag::Preconditions,
    problem::{Problem, ProblemSchema},
    routes::extract::PathId,
};

/// Take a product out of the shop
///
/// It is no longer shown or sold. Orders that name it stay, and are fulfilled; whoever
/// holds units of it can still order them. With `If-Match`, only if
/// nothing has changed since, a sale included.
#[utoipa::path(
    delete, path = "/products/{id}", tag = "products", operation_id = "delete_product",
    params(
        ("id" = i64, Path, description = "The product's id"),
        ("If-Match" = Option<String>, Header, description = "Only if this is still the product's ETag"),
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "There is no such product, or it is gone already",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 412, description = "The product is not the one that If-Match names",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "The id is no whole number, or If-Match no list of tags",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "The product is locked, or the database is away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn delete(
    State(app): State<App>,
    PathId(id): PathId,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let conditions = Preconditions::read(&headers)?;
    if id < 1 {
        return Err(Problem::unknown_product(id));
    }
    let locked = app.store.lock_product(ProductId(id)).await?;
    let locked = locked.ok_or_else(|| Problem::unknown_product(id))?;
    conditions.check(locked.product())?;
    // As in an update: fenced before the commit, told after it.
    let raised = app.cache.raise(&[(id, locked.next_version())]).await;
    locked.retire().await?;
    raised.changed();
    Ok(StatusCode::NO_CONTENT)
}
