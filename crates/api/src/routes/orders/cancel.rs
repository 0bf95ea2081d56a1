//! `POST /orders/{id}/cancel`

use axum::{Json, extract::State, http::Method};
use holdfast_admission::CancelOrder;
use holdfast_domain::{OrderId, OrderStatus};

use crate::{
    access::{Caller, Scope},
    app::App,
    endpoint::{ADMISSION, Access, Endpoint, Tag},
    orders::{OrderBody, View, unknown},
    problem::{Problem, ProblemKind},
    request::Id,
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::POST,
    path: "/orders/{id}/cancel",
    path_example: "2",
    access: Access::Customers(Scope::OrdersWrite),
    tag: Tag::Orders,
    operation_id: "cancel_order",
    summary: "Cancel an order",
    description: "Only a pending order can be cancelled, before a worker starts to fulfil it. Its units are returned to \
                  stock once. If a worker starts at the same moment, exactly one of the two succeeds.\n\n\
                  If an earlier attempt to fulfil the order may have succeeded, the order is not cancelled: 409 \
                  `order-may-be-fulfilled`. The order is then completed, fails, or is discarded by an operator.",
    answer: "The cancelled order",
    headers: &[],
    problems: &[
        &[ProblemKind::NotFound, ProblemKind::OrderMoved, ProblemKind::OrderMayBeFulfilled],
        ADMISSION,
    ],
};

pub(super) async fn cancel(
    State(app): State<App>,
    caller: Caller,
    id: Id<OrderId>,
) -> Result<Json<OrderBody>, Problem> {
    let id = id.0;
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
