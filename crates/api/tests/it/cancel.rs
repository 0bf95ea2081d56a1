//! An order that may be fulfilled cannot be cancelled until an operator decides.

use std::time::Duration;

use holdfast_domain::OrderId;
use holdfast_store::fulfilment::{AttemptResult, EndedClaim, Taken};
use serde_json::json;

use crate::server::Server;

/// Fails an attempt of an order with this outcome.
async fn try_once(server: &Server, id: i64, verdict: AttemptResult, taken: Taken) {
    let claims = server.store.claim(&[OrderId(id)], Duration::from_mins(1)).await.unwrap();
    let (order_id, attempt) = claims[0].id();
    let ended = EndedClaim { order_id, attempt, verdict, taken };
    assert_eq!(server.store.finish(&[ended]).await.unwrap().done.len(), 1);
}

fn again() -> AttemptResult {
    AttemptResult::Retry(Duration::from_hours(1), "no answer".to_owned())
}

async fn stock(server: &Server, product: i64) -> i64 {
    server.api.get(&format!("/products/{product}")).await.json()["stock"].as_i64().unwrap()
}

async fn ordered(server: &Server, product: i64) -> i64 {
    server.order(product, 1).await.json()["id"].as_i64().unwrap()
}

#[tokio::test]
async fn an_order_that_may_be_fulfilled_is_not_cancelled_and_its_unit_not_sold_again() {
    let server = Server::start().await;
    let lamp = server.product(1).await;
    let id = ordered(&server, lamp).await;
    try_once(&server, id, again(), Taken::Maybe).await;

    let refused = server.api.post(&format!("/orders/{id}/cancel"), &json!({})).await;
    assert_eq!(refused.status, 409, "{}", refused.text);
    let problem = refused.problem();
    assert_eq!(problem["type"], "/problems/order-may-be-fulfilled");
    assert_eq!(problem["state"], "pending");
    let order = server.api.get(&format!("/orders/{id}")).await.json();
    assert_eq!((&order["status"], &order["may_be_fulfilled"]), (&json!("pending"), &json!(true)));
    assert_eq!(stock(&server, lamp).await, 0);
    assert_eq!(server.order(lamp, 1).await.status, 409, "the unit is sold once");
}

#[tokio::test]
async fn an_order_whose_attempts_certainly_failed_can_be_cancelled() {
    let server = Server::start().await;
    let lamp = server.product(2).await;
    for verdict in [again(), AttemptResult::Postponed(Duration::ZERO, "down".to_owned())] {
        let id = ordered(&server, lamp).await;
        try_once(&server, id, verdict.clone(), Taken::Never).await;
        try_once(&server, id, verdict, Taken::Never).await;
        let order = server.api.get(&format!("/orders/{id}")).await.json();
        assert_eq!((&order["attempts"], order.get("may_be_fulfilled")), (&json!(2), None));
        let cancelled = server.api.post(&format!("/orders/{id}/cancel"), &json!({})).await;
        assert_eq!(cancelled.status, 200, "{}", cancelled.text);
        assert_eq!(stock(&server, lamp).await, 2);
    }
}

#[tokio::test]
async fn an_operator_discards_an_order_that_may_be_fulfilled() {
    let server = Server::start().await;
    let lamp = server.product(3).await;
    let body = json!({ "by": "ada", "note": "the receiver has no such order" });
    let [waiting, dead, replayed] =
        [ordered(&server, lamp).await, ordered(&server, lamp).await, ordered(&server, lamp).await];
    try_once(&server, waiting, again(), Taken::Maybe).await;
    try_once(&server, dead, AttemptResult::Failed("422".to_owned()), Taken::Maybe).await;
    try_once(&server, replayed, AttemptResult::Failed("422".to_owned()), Taken::Maybe).await;

    // A replay does not reset it.
    let path = format!("/dead-letters/{replayed}/replay");
    assert_eq!(server.admin.post(&path, &body).await.status, 200);
    let refused = server.api.post(&format!("/orders/{replayed}/cancel"), &json!({})).await;
    assert_eq!(refused.problem()["type"], "/problems/order-may-be-fulfilled");
    for (id, state) in [(waiting, "pending"), (dead, "failed"), (replayed, "pending")] {
        let path = format!("/dead-letters/{id}/discard");
        if state == "pending" {
            let unseen = server.admin.post(&path, &body).await;
            assert_eq!((unseen.status, &unseen.problem()["state"]), (409, &json!("pending")));
        }
        let body = json!({ "by": "ada", "note": "the receiver has no such order", "state": state });
        let done = server.admin.post(&path, &body).await;
        assert_eq!(done.status, 200, "{}", done.text);
        let last = done.json()["history"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((&last["status"], &last["by"]), (&json!("cancelled"), &json!("ada")));
        let twice = server.admin.post(&path, &body).await;
        assert_eq!(twice.problem()["type"], "/problems/order-moved");
    }
    assert_eq!(stock(&server, lamp).await, 3);
}

#[tokio::test]
async fn an_order_without_attempts_cannot_be_discarded() {
    let server = Server::start().await;
    let lamp = server.product(1).await;
    let id = ordered(&server, lamp).await;
    let path = format!("/dead-letters/{id}/discard");
    for body in [json!({ "by": "ada" }), json!({ "by": "ada", "state": "pending" })] {
        let refused = server.admin.post(&path, &body).await;
        assert_eq!((refused.status, &refused.problem()["state"]), (409, &json!("pending")));
    }
}
