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
    description: "The order is cancelled for good, and its units are in stock again, once: like a \
                  cancellation, it waits its turn among the orders for its products. Units that came from a \
                  hold go to the stock as well: the hold was used by the order and does not come back. Who \
                  wanted it and why is kept in the order's history.\n\n\
                  With `\"state\": \"pending\"`, an order is discarded that is pending and may be fulfilled \
                  already (`may_be_fulfilled`): it cannot be cancelled in another way. **Make sure first** \
                  that it is not fulfilled and will not be, since its units are sold again.",
    answer: "The order, cancelled",
    headers: &[],
    problems: &[
        &[ProblemKind::NotFound, ProblemKind::OrderMoved, ProblemKind::StockFull],
        ADMISSION,
    ],
};

/// Who wants an order discarded, why, and in which state it is.
#[derive(Debug, Request)]
pub struct Discard {
    /// Who wants it: 1 to 200 characters, kept in the order's history.
    #[field(example = "ada@shop.example")]
    by: OperatorName,
    /// Why: 1 to 500 characters, kept there too.
    #[field(example = "the receiver has no such order")]
    note: Option<OperatorNote>,
    /// The order's state: `failed` if not given. With `pending`, an order is discarded that may be
    /// fulfilled already and is to be tried again.
    state: Option<Discarded>,
}

/// The state of an order that is to be discarded.
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

/// An order in this state that only an operator can take back: one that has failed, or one that is pending and may
/// be fulfilled.
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
    fn a_discarded_order_has_failed_unless_it_is_said_to_be_pending() {
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
