//! `POST /orders/{id}/cancel`

use axum::{Json, extract::State};
use holdfast_admission::CancelOrder;
use holdfast_domain::{OrderId, OrderStatus};

use crate::{
    access::Caller,
    app::App,
    orders::{OrderBody, View, unknown},
    problem::{Problem, ProblemSchema},
    routes::extract::ParentId,
};

/// Cancel an order
///
/// Only a pending order can be cancelled: nobody works on it. Its units are in stock again, once. If a
/// worker begins it at the same moment, exactly one of the two wins.
///
/// An order that was tried before, and that may have been taken by the one who fulfils it, is not
/// cancelled: 409 `order-may-be-fulfilled`. It is completed or fails by itself, or an operator settles it.
#[utoipa::path(
    post, path = "/orders/{id}/cancel", tag = "orders", operation_id = "cancel_order",
    params(("id" = i64, Path, description = "The order's id")),
    responses(
        (status = 200, description = "The order, cancelled", body = OrderBody),
        (status = 404, description = "There is no such order",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "It is not pending any more, or it may be fulfilled already; `type` tells which, and `state` where it stands",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "The id is no whole number",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "Too many orders wait, a product is locked, or the database is away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 504, description = "The answer took too long; the order may be cancelled or not",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn cancel(
    State(app): State<App>,
    caller: Caller,
    ParentId(id): ParentId,
) -> Result<Json<OrderBody>, Problem> {
    let order = app.store.order(OrderId(id)).await?;
    let order = order
        .filter(|order| caller.may_see(order.customer_ref.as_ref()))
        .ok_or_else(|| unknown(id))?;
    let cancel = CancelOrder {
        order_id: order.id,
        from: OrderStatus::Pending,
        settled: false,
        lines: order.requested_lines(),
        ordered_by: None,
    };
    app.admission.cancel(cancel).await?;
    let order = app.store.order(order.id).await.map_err(Problem::after_change)?;
    let order = order.ok_or_else(|| unknown(id))?;
    Ok(Json(View::of(&caller).order(order)))
}
