//! `GET /dead-letters/{id}`

use axum::{Json, extract::State};

use super::failed;
use crate::{
    app::App,
    orders::{OrderHistoryBody, View},
    problem::{Kind, Problem, ProblemSchema},
    routes::extract::PathId,
};

/// One dead letter, and how it came to that
///
/// The history has each try and why it failed. `GET /orders/{id}` tells the same of any order.
#[utoipa::path(
    get, path = "/dead-letters/{id}", tag = "dead letters", operation_id = "get_dead_letter",
    params(("id" = i64, Path, description = "The order's id")),
    responses(
        (status = 200, description = "The order, which has failed", body = OrderHistoryBody),
        (status = 404, description = "There is no such order, or it is no dead letter",
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
) -> Result<Json<OrderHistoryBody>, Problem> {
    match failed(&app, id).await {
        Ok(order) => Ok(Json(View::Shop.with_history(order))),
        Err(problem) if problem.kind() == Kind::OrderMoved => Err(Problem::with_detail(
            Kind::NotFound,
            format!("The order {id} has not failed, or not any more; see /orders/{id}."),
        )),
        Err(problem) => Err(problem),
    }
}
