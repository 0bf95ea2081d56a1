//! `DELETE /sales/{name}`

use axum::{extract::State, http::Method};
use holdfast_domain::SaleName;

use super::unknown;
use crate::{
    access::Scope,
    app::App,
    endpoint::{Access, Endpoint, NoContent, Tag, WRITES},
    problem::{Problem, ProblemKind},
    request::PathArgument,
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::DELETE,
    path: "/sales/{name}",
    path_example: "black-friday",
    access: Access::Shop(Scope::Admin),
    tag: Tag::Sales,
    operation_id: "delete_sale",
    summary: "Delete a flash sale",
    description: "Its products can then be ordered without the limits of the sale, even if it was not open yet. Its \
                  orders are kept. A sale that was created by a FlashSale on Kubernetes is created again as long as \
                  the FlashSale exists.",
    answer: "The sale is deleted",
    headers: &[],
    problems: &[&[ProblemKind::NotFound], WRITES],
};

pub(super) async fn delete(
    State(app): State<App>,
    PathArgument(name): PathArgument<SaleName>,
) -> Result<NoContent, Problem> {
    if !app.store.delete_sale(&name).await? {
        return Err(unknown());
    }
    tracing::info!(name = name.as_str(), "a sale was deleted");
    Ok(NoContent)
}
