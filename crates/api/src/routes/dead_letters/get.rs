//! `GET /dead-letters/{id}`

use axum::{Json, extract::State, http::Method};
use holdfast_domain::OrderId;

use super::failed;
use crate::{
    access::Scope,
    app::App,
    endpoint::{Access, Endpoint, READS, Tag},
    orders::{OrderHistoryBody, View},
    problem::{Problem, ProblemKind},
    request::Id,
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::GET,
    path: "/dead-letters/{id}",
    path_example: "3",
    access: Access::Shop(Scope::Admin),
    tag: Tag::DeadLetters,
    operation_id: "get_dead_letter",
    summary: "Get a dead letter with its history",
    description: "The history has each attempt and why it failed. `GET /orders/{id}` shows the same for any order.",
    answer: "The failed order",
    headers: &[],
    problems: &[&[ProblemKind::NotFound], READS],
};

pub(super) async fn get(
    State(app): State<App>,
    id: Id<OrderId>,
) -> Result<Json<OrderHistoryBody>, Problem> {
    let id = id.0;
    match failed(&app.reads, id).await {
        Ok(order) => Ok(Json(View::Shop.with_history(order))),
        Err(problem) if problem.kind() == ProblemKind::OrderMoved => Err(Problem::with_detail(
            ProblemKind::NotFound,
            format!("Order {id} is not in the state failed; see /orders/{id}."),
        )),
        Err(problem) => Err(problem),
    }
}
