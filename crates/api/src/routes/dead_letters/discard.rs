//! `POST /dead-letters/{id}/discard`

use axum::{Json, body::Body, extract::State, http::HeaderMap};
use holdfast_domain::{Demand, OrderStatus};

use super::{failed, unknown};
use crate::{
    admission::Details,
    app::App,
    body::receive,
    dead_letters::{self, OrderedBySchema},
    orders::OrderHistoryBody,
    problem::{Problem, ProblemSchema},
    routes::extract::ParentId,
};

/// Discard a dead letter
///
/// The order is cancelled for good, and its units are in stock again, once: like a cancellation, it waits its
/// turn among the orders for its products. Units that came from a hold go to the stock as well: the
/// hold was used by the order and does not come back. Who wanted it and why is kept in the order's
/// history.
#[utoipa::path(
    post, path = "/dead-letters/{id}/discard", tag = "dead letters", operation_id = "discard_dead_letter",
    params(("id" = i64, Path, description = "The order's id")),
    request_body(content = OrderedBySchema),
    responses(
        (status = 200, description = "The order, cancelled", body = OrderHistoryBody),
        (status = 404, description = "There is no such order",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 408, description = "The body came too slowly",
            body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "It has not failed, or not any more (`state` tells where it stands), or the shop cannot hold the units",
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
    let ordered = dead_letters::ordered_by(&receive(&headers, body, app.body).await?)?;
    let order = failed(&app, id).await?;
    let from = OrderStatus::Failed;
    let demand = Demand::Cancel { order_id: order.id, from, lines: order.demanded() };
    let details = Details { ordered: Some(ordered), ..Details::default() };
    app.admission.place(demand, details).await?;
    let order = app.store.order(order.id).await?.ok_or_else(|| unknown(id))?;
    Ok(Json(order.into()))
}
