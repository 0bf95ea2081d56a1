//! `GET /orders/{id}`

use axum::{Json, extract::State, http::Method};
use holdfast_domain::OrderId;

use crate::{
    access::{Caller, Scope},
    app::App,
    endpoint::{Access, Endpoint, READS, Tag},
    orders::{OrderHistoryBody, View, unknown},
    problem::{Problem, ProblemKind},
    request::Id,
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::GET,
    path: "/orders/{id}",
    path_example: "1",
    access: Access::Customers(Scope::OrdersRead),
    tag: Tag::Orders,
    operation_id: "get_order",
    summary: "Get an order with its history",
    description: "`status` is the current status, and `history` lists all changes of it.",
    answer: "The order",
    headers: &[],
    problems: &[&[ProblemKind::NotFound], READS],
};

pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    id: Id<OrderId>,
) -> Result<Json<OrderHistoryBody>, Problem> {
    let id = id.0;
    let order = app.reads.order(OrderId(id)).await?;
    let order = order.filter(|order| caller.may_see(order.customer_ref.as_ref()));
    Ok(Json(View::of(&caller).with_history(order.ok_or_else(|| unknown(id))?)))
}
