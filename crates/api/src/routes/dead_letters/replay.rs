//! `POST /dead-letters/{id}/replay`

use axum::{Json, body::Body, extract::State, http::HeaderMap};
use holdfast_domain::OrderId;

use super::{failed, unknown};
use crate::{
    app::App,
    body::receive,
    dead_letters::{self, OrderedBySchema},
    orders::{OrderHistoryBody, View},
    problem::{Kind, Problem, ProblemSchema},
    routes::extract::ParentId,
};

/// Replay a dead letter
///
/// The order is pending again, with all its tries before it; the receiver is sent the same message id.
/// Who wanted it and why is kept in the order's history.
#[utoipa::path(
    post, path = "/dead-letters/{id}/replay", tag = "dead letters", operation_id = "replay_dead_letter",
    params(("id" = i64, Path, description = "The order's id")),
    request_body(content = OrderedBySchema),
    responses(
        (status = 200, description = "The order, pending or already further", body = OrderHistoryBody),
        (status = 404, description = "There is no such order",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 408, description = "The body came too slowly",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "It has not failed, or not any more; `state` tells where it stands",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON by its type",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "Fields are wrong; all of them are named",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "The database is busy or away: try again after Retry-After",
            body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub async fn replay(
    State(app): State<App>,
    ParentId(id): ParentId,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<OrderHistoryBody>, Problem> {
    let ordered = dead_letters::ordered_by(&receive(&headers, body, app.body).await?)?;
    // So that a dead letter that is none leads to an answer that says why.
    let order = failed(&app, id).await?;
    let replayed = app.store.replay(&[order.id], ordered.as_ordered()).await?;
    if !replayed.locked.is_empty() {
        return Err(Problem::new(Kind::Locked));
    }
    let was_ours = !replayed.orders.is_empty();
    app.admission
        .publish(replayed.orders.into_iter().map(|order| (order.order_id, order.trace_context)));
    let order = app.store.order(OrderId(id)).await.map_err(Problem::after_change)?;
    let order = order.ok_or_else(|| unknown(id))?;
    // Somebody else was faster.
    if was_ours {
        Ok(Json(View::Shop.with_history(order)))
    } else {
        Err(Problem::order_moved(order.status))
    }
}
