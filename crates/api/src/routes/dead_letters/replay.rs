//! `POST /dead-letters/{id}/replay`

use axum::{Json, extract::State, http::Method};
use holdfast_admission::OrderedBy;
use holdfast_domain::{OperatorName, OperatorNote, OrderId};

use super::failed;
use crate::{
    access::Scope,
    app::App,
    endpoint::{Access, Endpoint, Tag, WRITES},
    orders::{OrderHistoryBody, View, unknown},
    problem::{Problem, ProblemKind},
    request::{Id, JsonBody, Request},
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::POST,
    path: "/dead-letters/{id}/replay",
    path_example: "5",
    access: Access::Shop(Scope::Admin),
    tag: Tag::DeadLetters,
    operation_id: "replay_dead_letter",
    summary: "Replay a dead letter",
    description: "The order becomes pending again, with its full number of attempts. The receiver gets the same \
                  message id as before. `by` and `note` are kept in the order's history.",
    answer: "The order, which is pending or already being fulfilled",
    headers: &[],
    problems: &[&[ProblemKind::NotFound, ProblemKind::OrderMoved], WRITES],
};

/// The operator who replays an order, and the reason.
#[derive(Debug, Request)]
pub struct OperatorRequest {
    /// The name of the operator: 1 to 200 characters, kept in the order's history.
    #[field(example = "ada@shop.example")]
    by: OperatorName,
    /// The reason: 1 to 500 characters, kept in the order's history.
    #[field(example = "the carrier is available again")]
    note: Option<OperatorNote>,
}

pub(super) async fn replay(
    State(app): State<App>,
    id: Id<OrderId>,
    JsonBody(OperatorRequest { by, note }): JsonBody<OperatorRequest>,
) -> Result<Json<OrderHistoryBody>, Problem> {
    let id = id.0;
    let ordered = OrderedBy { by, note };
    // If the order is not a dead letter, the answer says why.
    let order = failed(&app.store, id).await?;
    let replayed = app.store.replay(&[order.id], ordered.as_ordered()).await?;
    if !replayed.locked.is_empty() {
        return Err(Problem::new(ProblemKind::Locked));
    }
    let was_ours = !replayed.orders.is_empty();
    app.admission
        .publish(replayed.orders.into_iter().map(|order| (order.order_id, order.trace_context)));
    let order = app.store.order(OrderId(id)).await.map_err(Problem::after_change)?;
    let order = order.ok_or_else(|| unknown(id))?;
    // Another request was faster.
    if was_ours {
        Ok(Json(View::Shop.with_history(order)))
    } else {
        Err(Problem::order_moved(order.status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::{read, wrong};

    #[test]
    fn an_operator_is_required_and_a_note_is_not() {
        let note = |body: &str| {
            let request: OperatorRequest = read(body).unwrap();
            request.note.map(|note| note.as_str().to_owned())
        };
        assert_eq!(note(r#"{"by":"ada","note":"why not"}"#).as_deref(), Some("why not"));
        for body in [r#"{"by":"ada"}"#, r#"{"by":"ada","note":null}"#] {
            assert_eq!(note(body), None);
        }
        for (body, fields) in [
            ("{}", vec!["by"]),
            (r#"{"by":" ","note":""}"#, vec!["by", "note"]),
            (r#"{"by":null,"note":7}"#, vec!["by", "note"]),
            (r#"{"by":"a\u0000"}"#, vec!["by"]),
        ] {
            assert_eq!(wrong::<OperatorRequest>(body), fields, "{body}");
        }
    }
}
