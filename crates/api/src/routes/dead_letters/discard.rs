//! `POST /dead-letters/{id}/discard`

use axum::{Json, extract::State, http::Method};
use holdfast_admission::{CancelOrder, OrderedBy};
use holdfast_domain::{OperatorName, OperatorNote, Order, OrderId, OrderStatus};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, schema::Type};

use crate::{
    access::Scope,
    app::App,
    endpoint::{ADMISSION, Access, Endpoint, Tag},
    orders::{OrderHistoryBody, View, unknown},
    problem::{Problem, ProblemKind},
    request::{Id, Input, JsonBody, Reading, Request, Value, Wrong},
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::POST,
    path: "/dead-letters/{id}/discard",
    path_example: "4",
    access: Access::Shop(Scope::Admin),
    tag: Tag::DeadLetters,
    operation_id: "discard_dead_letter",
    summary: "Discard a dead letter",
    description: "The order is cancelled permanently, and its units are returned to stock once. The request waits \
                  in line with the orders for its products, like a cancellation. Units from a hold are returned to \
                  stock too; the hold itself stays used. `by` and `note` are kept in the order's \
                  history.\n\n\
                  With `\"state\": \"pending\"`, the request discards a pending order that may have been fulfilled \
                  already (`may_be_fulfilled`), and that cannot be cancelled in any other way. **Make sure first** \
                  that it has not been and will not be fulfilled, because its units are sold again.",
    answer: "The cancelled order",
    headers: &[],
    problems: &[
        &[ProblemKind::NotFound, ProblemKind::OrderMoved, ProblemKind::StockFull],
        ADMISSION,
    ],
};

/// The operator who discards an order, the reason, and the state of the order.
#[derive(Debug, Request)]
pub struct Discard {
    /// The name of the operator: 1 to 200 characters, kept in the order's history.
    #[field(example = "ada@shop.example")]
    by: OperatorName,
    /// The reason: 1 to 500 characters, kept in the order's history.
    #[field(example = "the receiver has no such order")]
    note: Option<OperatorNote>,
    /// The order's state: `failed` if not given. `pending` discards an order that may have been fulfilled and that
    /// would be tried again.
    state: Option<Discarded>,
}

/// The state of an order before it is discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Discarded(OrderStatus);

impl Discarded {
    /// In this order in the document.
    const ALL: [OrderStatus; 2] = [OrderStatus::Failed, OrderStatus::Pending];
}

impl Value for Discarded {
    fn read(input: Input<'_>, _: &Reading<'_>) -> Result<Self, Wrong> {
        let text = input.text()?;
        let state = Self::ALL.into_iter().find(|state| state.as_str() == text);
        state.map(Self).ok_or_else(|| "must be failed or pending".into())
    }

    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(Self::ALL.map(OrderStatus::as_str)))
            .into()
    }
}

pub(super) async fn discard(
    State(app): State<App>,
    id: Id<OrderId>,
    JsonBody(Discard { by, note, state }): JsonBody<Discard>,
) -> Result<Json<OrderHistoryBody>, Problem> {
    let id = id.0;
    let from = state.map_or(OrderStatus::Failed, |Discarded(state)| state);
    let order = unsettled(&app, id, from).await?;
    let discard = CancelOrder {
        order_id: order.id,
        from,
        settled: true,
        lines: order.requested_lines(),
        ordered_by: Some(OrderedBy { by, note }),
    };
    app.admission.cancel(discard).await?;
    let order = app.store.order(order.id).await.map_err(Problem::after_change)?;
    let order = order.ok_or_else(|| unknown(id))?;
    Ok(Json(View::Shop.with_history(order)))
}

/// Whether only an operator can cancel the order: it has failed, or it is pending and may have been fulfilled.
async fn unsettled(app: &App, id: i64, state: OrderStatus) -> Result<Order, Problem> {
    let order = app.store.order(OrderId(id)).await?.ok_or_else(|| unknown(id))?;
    let can_be_cancelled = order.status == OrderStatus::Pending && !order.may_be_fulfilled;
    if order.status == state && !can_be_cancelled {
        Ok(order)
    } else {
        Err(Problem::order_moved(order.status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::{read, wrong};

    #[test]
    fn a_discarded_order_has_failed_unless_the_request_says_pending() {
        let state = |body: &str| read::<Discard>(body).unwrap().state.map(|Discarded(state)| state);
        assert_eq!(state(r#"{"by":"a"}"#), None);
        assert_eq!(state(r#"{"by":"a","state":null}"#), None);
        assert_eq!(state(r#"{"by":"a","state":"failed"}"#), Some(OrderStatus::Failed));
        assert_eq!(state(r#"{"by":"a","state":"pending"}"#), Some(OrderStatus::Pending));
        for state in ["\"completed\"", "7", "\"\"", "true"] {
            let body = format!(r#"{{"by":"a","state":{state}}}"#);
            assert_eq!(wrong::<Discard>(&body), ["state"], "{state}");
        }
    }
}
