//! `Idempotency-Key`: done once.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};
use holdfast_api::{
    access::Caller,
    admission::{Accepted, AdmissionSettings, Details, Refusal},
    new_order::{self, OrderLimits},
};
use holdfast_domain::{Demand, ProductId};
use holdfast_store::{IdempotencyKey, ResultKind};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    client::Answer,
    lanes::{Lanes, lanes, lanes_on, lock, one, order},
    server::{self, Server},
};

async fn send(server: &Server, path: &str, key: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    server.api.send(Method::POST, path, &headers, body.to_string()).await
}

#[tokio::test]
async fn the_same_request_again_gets_the_same_answer_and_takes_nothing() {
    let server = Server::start().await;
    let lamp = server.product(5).await;
    let body = json!({ "product_id": lamp, "quantity": 2, "customer_ref": "ada", "metadata": { "b": 1, "a": [2] } });
    let first = send(&server, "/orders", "k-1", &body).await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (201, ""), "{}", first.text);
    for _ in 0..2 {
        let again = send(&server, "/orders", "\"k-1\"", &body).await;
        assert_eq!((again.status, again.header("idempotency-replayed")), (201, "true"));
        assert_eq!(again.text, first.text);
        assert_eq!(again.header("location"), first.header("location"));
    }
    // Also when nothing is left, and the product is gone.
    assert_eq!(server.order(lamp, 3).await.status, 201);
    assert_eq!(server.order(lamp, 1).await.status, 409);
    assert_eq!(send(&server, "/orders", "k-1", &body).await.text, first.text);
    assert_eq!(server.api.delete(&format!("/products/{lamp}")).await.status, 204);
    assert_eq!(send(&server, "/orders", "k-1", &body).await.text, first.text);

    let mut other = body.clone();
    other["quantity"] = json!(1);
    let reused = send(&server, "/orders", "k-1", &other).await;
    assert_eq!(
        (reused.status, reused.problem()["type"].as_str()),
        (422, Some("/problems/idempotency-key-reused"))
    );
    // A key is one key, whatever it is used for.
    let hold = send(&server, "/holds", "k-1", &json!({ "product_id": lamp, "quantity": 2 })).await;
    assert_eq!(hold.status, 422, "{}", hold.text);
    assert_eq!(server.metric("holdfast_requests_repeated_total").await, 4);
}

#[tokio::test]
async fn a_repeat_shows_its_result_as_it_is_now() {
    let server = Server::start().await;
    let lamp = server.product(9).await;
    let order = json!({ "product_id": lamp, "quantity": 1 });
    let placed = send(&server, "/orders", "order", &order).await.json();
    let cancel = format!("/orders/{}/cancel", placed["id"]);
    assert_eq!(server.api.post(&cancel, &json!({})).await.status, 200);
    let again = send(&server, "/orders", "order", &order).await;
    assert_eq!((again.status, &again.json()["id"]), (201, &placed["id"]));
    assert_eq!(again.json()["status"], "cancelled");
    assert_eq!(server.api.get(&format!("/products/{lamp}")).await.json()["stock"], 9, "once");

    let hold = json!({ "product_id": lamp, "quantity": 2, "customer_ref": "ada" });
    let kept = send(&server, "/holds", "hold", &hold).await.json();
    let used = json!({ "product_id": lamp, "quantity": 2, "hold_id": kept["id"] });
    let used = server.api.post("/orders", &used).await.json();
    let again = send(&server, "/holds", "hold", &hold).await;
    assert_eq!((again.status, &again.json()["id"]), (201, &kept["id"]));
    assert_eq!((&again.json()["status"], &again.json()["order_id"]), (&json!("used"), &used["id"]));

    // An entry of the ledger never changes.
    let path = format!("/products/{lamp}/stock");
    let delivery = json!({ "delta": 5, "reason": "delivery" });
    let entry = send(&server, &path, "stock", &delivery).await;
    assert_eq!(server.order(lamp, 3).await.status, 201);
    let again = send(&server, &path, "stock", &delivery).await;
    assert_eq!((again.status, again.json()), (201, entry.json()));
    assert_eq!(server.api.get(&format!("/products/{lamp}")).await.json()["stock"], 9);
}

#[tokio::test]
async fn the_same_request_is_the_same_however_it_is_written() {
    let server = Server::start().await;
    let (lamp, vase) = (server.product(9).await, server.product(9).await);
    let send = async |path: &str, body: String| {
        let headers = [("content-type", "application/json"), ("idempotency-key", path)];
        let answer = server.api.send(Method::POST, path, &headers, body).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()["id"].clone()
    };
    let first = format!(
        r#"{{"items":[{{"product_id":{vase},"quantity":1}},{{"product_id":{lamp},"quantity":3,"expected_price":499.90}}],
        "metadata":{{"a":1,"b":[true]}}}}"#
    );
    let order = send("/orders", first).await;
    let again = format!(
        r#"{{"customer_ref":null,"metadata":{{ "b": [ true ], "a": 1.0 }},"items":[
        {{"quantity":2.0,"product_id":{lamp},"expected_price":"499.9"}},
        {{"product_id":{vase}, "quantity":1e0,"hold_id":null,"expected_price":null}},
        {{"product_id":{lamp},"quantity":1}}]}}"#
    );
    assert_eq!(send("/orders", again).await, order);
    let hold = send("/holds", format!(r#"{{"product_id":{lamp},"quantity":1}}"#)).await;
    let again =
        format!(r#"{{"seconds":900.0,"customer_ref":null, "quantity":1.0,"product_id":{lamp}}}"#);
    assert_eq!(send("/holds", again).await, hold);
    let path = format!("/products/{lamp}/stock");
    let entry = send(&path, r#"{"delta":5,"reason":"delivery"}"#.to_owned()).await;
    assert_eq!(
        send(&path, r#"{ "reason": "deliver\u0079", "delta": 5.0 }"#.to_owned()).await,
        entry
    );
    let stock = async |id| server.api.get(&format!("/products/{id}")).await.json()["stock"].clone();
    assert_eq!((stock(lamp).await, stock(vase).await), (json!(9 - 3 - 1 + 5), json!(8)));
}

#[tokio::test]
async fn a_key_of_the_release_before_is_known_to_this_one() {
    let lanes = lanes(AdmissionSettings::default()).await;
    let (lamp, vase) = (lanes.product(3).await, lanes.product(3).await);
    // As it wrote them: line after line, in the order of the request.
    let before = format!("order;{vase},1,0;{lamp},2,0||");
    let demand = || order(&[(vase, 1), (lamp, 2)]);
    let first = lanes.admission.place(demand(), keyed("k", &before)).await;
    let Ok(Accepted::Order(first)) = first else { panic!("{first:?}") };
    let limits = OrderLimits { quantity: 9, lines: 9, hold: Duration::from_secs(9) };
    let mut headers = HeaderMap::new();
    headers.insert("idempotency-key", HeaderValue::from_static("k"));
    let details = |items: [(ProductId, i64); 2]| {
        let item = |(id, units): (ProductId, i64)| json!({ "product_id": id.0, "quantity": units });
        let body = json!({ "items": items.map(item) }).to_string();
        new_order::order(&headers, &body.into(), &limits, &Caller::anybody()).unwrap().details
    };
    let again = lanes.admission.place(demand(), details([(vase, 1), (lamp, 2)])).await;
    assert_eq!(again, Ok(Accepted::Repeat { kind: ResultKind::Order, id: first.id.0 }));
    let other = lanes.admission.place(demand(), details([(vase, 2), (lamp, 1)])).await;
    assert_eq!(other, Err(Refusal::KeyReused));
}

#[tokio::test]
async fn a_refused_request_leaves_its_key_free() {
    let server = Server::start().await;
    let lamp = server.product(1).await;
    let body = json!({ "product_id": lamp, "quantity": 2 });
    assert_eq!(send(&server, "/orders", "k", &body).await.status, 409);
    server.api.put(&format!("/products/{lamp}"), &json!({ "stock": 2 })).await;
    assert_eq!(send(&server, "/orders", "k", &body).await.status, 201);
}

#[tokio::test]
async fn keys_that_are_none_are_refused() {
    let server = Server::start().await;
    let lamp = server.product(5).await;
    let before = server.contents().await;
    for key in ["", "\"\"", "a\"b", &"x".repeat(256), &"x".repeat(10_000)] {
        let answer =
            send(&server, "/orders", key, &json!({ "product_id": lamp, "quantity": 0 })).await;
        assert_eq!(answer.wrong_fields(), ["Idempotency-Key", "quantity"], "{key:?}");
    }
    assert_eq!(server.contents().await, before);
}

fn keyed(key: &str, request: &str) -> Details {
    let key = Some(IdempotencyKey::new("", key, request.as_bytes()));
    Details { key, ..Details::default() }
}

async fn results(lanes: &Lanes, demands: Vec<(Demand, Details)>) -> Vec<Result<Accepted, Refusal>> {
    let placing =
        demands.into_iter().map(|(demand, details)| lanes.admission.place(demand, details));
    futures::future::join_all(placing).await
}

#[tokio::test]
async fn repeats_within_a_batch_share_the_first_ones_order() {
    let lanes = lanes(AdmissionSettings::default()).await;
    let lamp = lanes.product(3).await;
    let found = results(
        &lanes,
        vec![
            // Refused, so its key is free for the next.
            (one(lamp, 4), keyed("a", "4")),
            (one(lamp, 2), keyed("a", "2")),
            (one(lamp, 2), keyed("a", "2")),
            (one(lamp, 1), keyed("a", "1")),
            (one(lamp, 1), keyed("b", "1")),
        ],
    )
    .await;
    let Ok(Accepted::Order(first)) = &found[1] else { panic!("{found:?}") };
    let repeat = Accepted::Repeat { kind: ResultKind::Order, id: first.id.0 };
    assert!(matches!(found[0], Err(Refusal::Short(_))), "{found:?}");
    assert_eq!(found[2], Ok(repeat));
    assert_eq!(found[3], Err(Refusal::KeyReused));
    assert!(matches!(found[4], Ok(Accepted::Order(_))), "{found:?}");
    assert_eq!((lanes.orders().await, lanes.stock(lamp).await), (2, 0));
}

#[tokio::test]
async fn a_repeat_on_another_replica_waits_for_the_first_in_flight() {
    let url = server::database().await;
    let here = lanes_on(&url, AdmissionSettings::default()).await;
    let there = lanes_on(&url, AdmissionSettings::default()).await;
    // Once sold, there is none left: still the repeat must hear of its order, not of that.
    let lamp = here.product(2).await;
    // In flight here: written, and its commit held up.
    sqlx::raw_sql(
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON orders \
             DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION dawdle()",
    )
    .execute(here.store.pool())
    .await
    .unwrap();
    let place = |lanes: &Lanes| {
        let admission = lanes.admission.clone();
        tokio::spawn(async move { admission.place(one(lamp, 2), keyed("k", "2")).await })
    };
    let first = place(&here);
    let second = place(&there);
    let (first, second) = (first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
    let ((Accepted::Order(order), Accepted::Repeat { id, .. })
    | (Accepted::Repeat { id, .. }, Accepted::Order(order))) = (&first, &second)
    else {
        panic!("{first:?} {second:?}")
    };
    assert_eq!(order.id.0, *id);
    assert_eq!((here.orders().await, here.stock(lamp).await), (1, 0));
}

/// The key of one replica's batch is taken by another's while its row is locked elsewhere: another
/// product, so no row lock orders the two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_keys_on_two_replicas_lead_to_one_order_each() {
    let url = server::database().await;
    let replicas = [
        lanes_on(&url, AdmissionSettings::default()).await,
        lanes_on(&url, AdmissionSettings::default()).await,
    ];
    let lamp = replicas[0].product(100_000).await;
    for round in 0..20 {
        let tries = (0..64).flat_map(|key| (0..2).map(move |replica: usize| (key, replica)));
        let placing = tries.map(|(key, replica)| {
            let details = keyed(&format!("{round}-{key}"), "1");
            let admission = replicas[replica].admission.clone();
            async move { (key, admission.place(one(lamp, 1), details).await.unwrap()) }
        });
        let mut by_key = std::collections::BTreeMap::<_, Vec<i64>>::new();
        for (key, accepted) in futures::future::join_all(placing).await {
            by_key.entry(key).or_default().push(match accepted {
                Accepted::Order(order) => order.id.0,
                Accepted::Repeat { id, .. } => id,
                other => panic!("{other:?}"),
            });
        }
        assert!(by_key.values().all(|ids| ids[0] == ids[1]), "{by_key:?}");
    }
    assert_eq!(replicas[0].orders().await, 20 * 64);
}

#[tokio::test]
async fn a_repeat_is_answered_while_its_product_is_locked() {
    let lanes = lanes(AdmissionSettings::default()).await;
    let lamp = lanes.product(10).await;
    let first = lanes.admission.place(one(lamp, 1), keyed("k", "1")).await.unwrap();
    let Accepted::Order(order) = first else { panic!("{first:?}") };
    let holder = lock(&lanes.store, &[lamp]).await;
    let again = lanes.admission.place(one(lamp, 1), keyed("k", "1")).await;
    assert_eq!(again, Ok(Accepted::Repeat { kind: ResultKind::Order, id: order.id.0 }));
    holder.release().await.unwrap();
}

#[tokio::test]
async fn old_keys_are_purged_in_steps_and_may_be_used_again() {
    let lanes = lanes(AdmissionSettings::default()).await;
    let lamp = lanes.product(10).await;
    for key in ["a", "b", "c"] {
        lanes.admission.place(one(lamp, 1), keyed(key, "1")).await.unwrap();
    }
    sqlx::query(
        "UPDATE idempotency_keys SET created_at = now() - interval '25 hours' WHERE result_id < 3",
    )
    .execute(lanes.store.pool())
    .await
    .unwrap();
    let day = std::time::Duration::from_hours(24);
    assert_eq!(lanes.store.purge_idempotency_keys(day, 1).await.unwrap(), 1);
    assert_eq!(lanes.store.purge_idempotency_keys(day, 10).await.unwrap(), 1);
    assert_eq!(lanes.store.purge_idempotency_keys(day, 10).await.unwrap(), 0);
    let anew = lanes.admission.place(one(lamp, 2), keyed("a", "2")).await.unwrap();
    assert!(matches!(anew, Accepted::Order(_)), "{anew:?}");
    assert_eq!(lanes.admission.place(one(lamp, 2), keyed("c", "2")).await, Err(Refusal::KeyReused));
}
