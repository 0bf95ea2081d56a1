//! `Idempotency-Key`: a repeated request has one effect.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{client::ApiAnswer, server::Server};

async fn send(server: &Server, path: &str, key: &str, body: &Value) -> ApiAnswer {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    server.api.send(Method::POST, path, &headers, body.to_string()).await
}

#[tokio::test]
async fn a_repeated_request_gets_the_same_answer_and_takes_no_stock() {
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
    // This holds even if nothing is left and the product was deleted.
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
    // A key is the same key for every kind of request.
    let hold = send(&server, "/holds", "k-1", &json!({ "product_id": lamp, "quantity": 2 })).await;
    assert_eq!(hold.status, 422, "{}", hold.text);
    assert_eq!(server.metric("holdfast_requests_repeated_total").await, 4);
}

#[tokio::test]
async fn a_repeat_shows_the_current_state_of_its_result() {
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

    // A ledger entry never changes.
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
async fn a_key_of_the_previous_release_is_recognized() {
    let server = Server::start().await;
    let (lamp, vase) = (server.product(3).await, server.product(3).await);
    let items = |vases: i64, lamps: i64| {
        json!({ "items": [
            { "product_id": vase, "quantity": vases },
            { "product_id": lamp, "quantity": lamps },
        ] })
    };
    let first = send(&server, "/orders", "k", &items(1, 2)).await;
    // That release wrote requests line by line, in the order of the request.
    sqlx::query(
        "UPDATE idempotency_keys SET fingerprint = \
         ('x' || left(encode(sha256(convert_to($1, 'UTF8')), 'hex'), 16))::bit(64)::bigint",
    )
    .bind(format!("order;{vase},1,0;{lamp},2,0||"))
    .execute(server.store.pool())
    .await
    .unwrap();
    let again = send(&server, "/orders", "k", &items(1, 2)).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (201, "true"));
    assert_eq!(again.json()["id"], first.json()["id"]);
    assert_eq!(send(&server, "/orders", "k", &items(2, 1)).await.status, 422);
}

#[tokio::test]
async fn a_key_of_a_release_that_rounded_numbers_in_metadata_is_recognized() {
    let server = Server::start().await;
    let lamp = server.product(9).await;
    let headers = |key| [("idempotency-key", key), ("content-type", "application/json")];
    let send = async |key, number: &str| {
        let body =
            format!(r#"{{"product_id":{lamp},"quantity":1,"metadata":{{"b":{number},"a":1.0}}}}"#);
        server.api.send(reqwest::Method::POST, "/orders", &headers(key), body).await
    };
    for (key, form) in [("rounded", r#"{"a":1,"b":0.1}"#), ("earliest", r#"{"a":1.0,"b":0.1}"#)] {
        let first = send(key, "0.1").await;
        assert_eq!(first.status, 201, "{}", first.text);
        assert_eq!(send(key, "0.10000000000000000001").await.status, 422, "it is compared exactly");
        sqlx::query(
            "UPDATE idempotency_keys SET fingerprint = \
             ('x' || left(encode(sha256(convert_to($1, 'UTF8')), 'hex'), 16))::bit(64)::bigint \
             WHERE result_id = $2",
        )
        .bind(format!("order;{lamp},1,0||{}:{form}", form.len()))
        .bind(first.json()["id"].as_i64().unwrap())
        .execute(server.store.pool())
        .await
        .unwrap();
        let again = send(key, "0.10").await;
        assert_eq!((again.status, again.header("idempotency-replayed")), (201, "true"), "{key}");
        assert_eq!(again.json()["id"], first.json()["id"]);
        assert_eq!(send(key, "0.2").await.status, 422);
    }
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
async fn malformed_idempotency_keys_are_refused() {
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
