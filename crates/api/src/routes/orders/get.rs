//! `GET /orders/{id}`

use axum::{Json, extract::State};
use holdfast_domain::OrderId;

use crate::{
    access::Caller,
    app::App,
    orders::{OrderHistoryBody, View, unknown},
    problem::{Problem, ProblemSchema},
    routes::extract::PathId,
};

/// One order, and what became of it
#[utoipa::path(
    get, path = "/orders/{id}", tag = "orders", operation_id = "get_order",
    params(("id" = i64, Path, description = "The order's id")),
    responses(
        (status = 200, description = "The order", body = OrderHistoryBody),
        (status = 404, description = "There is no such order",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "The id is no whole number",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "The database is busy or away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId,
) -> Result<Json<OrderHistoryBody>, Problem> {
    let order = app.store.order(OrderId(id)).await?;
    let order = order.filter(|order| caller.may_see(order.customer_ref.as_ref()));
    Ok(Json(View::of(&caller).with_history(order.ok_or_else(|| unknown(id))?)))
}
