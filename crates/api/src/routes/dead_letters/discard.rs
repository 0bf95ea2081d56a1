//! `POST /dead-letters/{id}/discard`

use axum::{Json, body::Body, extract::State, http::HeaderMap};
use holdfast_admission::CancelOrder;

use super::{unknown, unsettled};
use crate::{
    app::App,
    body::receive,
    dead_letters::{self, DiscardSchema},
    orders::{OrderHistoryBody, View},
    problem::{Problem, ProblemSchema},
    routes::extract::ParentId,
};

/// Discard a dead letter
///
/// The order is cancelled for good, and its units are in stock again, once: like a cancellation, it waits its
/// turn among the orders for its products. Units that came from a hold go to the stock as well: the
/// hold was used by the order and does not come back. Who wanted it and why is kept in the order's
/// history.
///
/// With `"state": "pending"`, an order is discarded that is pending and may be fulfilled already
/// (`may_be_fulfilled`): nobody else can cancel it. **Make sure first** that it is not fulfilled and will
/// not be, since its units are sold again.
#[utoipa::path(
    post, path = "/dead-letters/{id}/discard", tag = "dead letters", operation_id = "discard_dead_letter",
    params(("id" = i64, Path, description = "The order's id")),
    request_body(content = DiscardSchema),
    responses(
        (status = 200, description = "The order, cancelled", body = OrderHistoryBody),
        (status = 404, description = "There is no such order",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 408, description = "The body came too slowly",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "It is not in that state, or not any more (`state` tells where it stands), or the shop cannot hold the units",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON by its type",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "Fields are wrong; all of them are named",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "Too many orders wait, a product is locked, or the database is away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 504, description = "The answer took too long; the order may be discarded or not",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn discard(
    State(app): State<App>,
    ParentId(id): ParentId,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<OrderHistoryBody>, Problem> {
    let (ordered_by, from) = dead_letters::discard(&receive(&headers, body, app.body).await?)?;
    let order = unsettled(&app, id, from).await?;
    let discard = CancelOrder {
        order_id: order.id,
        from,
        settled: true,
        lines: order.requested_lines(),
        ordered_by: Some(ordered_by),
    };
    app.admission.cancel(discard).await?;
    let order = app.store.order(order.id).await.map_err(Problem::after_change)?;
    let order = order.ok_or_else(|| unknown(id))?;
    Ok(Json(View::Shop.with_history(order)))
}
