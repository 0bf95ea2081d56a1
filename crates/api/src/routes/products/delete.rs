//! `DELETE /products/{id}`

use axum::{extract::State, http::Method};
use holdfast_domain::ProductId;

use crate::{
    access::Scope,
    app::App,
    endpoint::{Access, Endpoint, NoContent, Tag, WRITES},
    etag::IfMatch,
    problem::{Problem, ProblemKind},
    request::Id,
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::DELETE,
    path: "/products/{id}",
    path_example: "8",
    access: Access::Shop(Scope::ProductsWrite),
    tag: Tag::Products,
    operation_id: "delete_product",
    summary: "Delete a product",
    description: "The product is no longer shown or sold. Its orders are kept and fulfilled, and units in a hold can still be \
                  ordered. With `If-Match`, the product is deleted only if it has not changed; an order of it is a change, too.",
    answer: "The product is deleted",
    headers: &[],
    problems: &[&[ProblemKind::NotFound], WRITES],
};

pub(super) async fn delete(
    State(app): State<App>,
    id: Id<ProductId>,
    conditions: IfMatch,
) -> Result<NoContent, Problem> {
    let id = id.0;
    let locked = conditions.lock(&app.store, id).await?;
    // As in an update, the cache is fenced before the commit and updated after it.
    let raised = app.cache.raise(&[(id, locked.next_version())]).await;
    locked.retire().await?;
    raised.changed();
    Ok(NoContent)
}
