//! Entity tags, conditional requests and relative changes of stock.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{client::ApiAnswer, server::Server};

async fn with(
    server: &Server,
    method: Method,
    path: &str,
    header: (&str, &str),
    body: &Value,
) -> ApiAnswer {
    let headers = [("content-type", "application/json"), header];
    server.api.send(method, path, &headers, body.to_string()).await
}

#[tokio::test]
async fn a_current_version_is_answered_with_304() {
    let server = Server::start().await;
    let lamp = server.product(10).await;
    let path = format!("/products/{lamp}");
    let first = server.api.get(&path).await;
    let tag = first.header("etag").to_owned();
    assert!(tag.starts_with('"'), "{tag}");
    let again = |tag: String| {
        let server = &server;
        let path = &path;
        async move { server.api.send(Method::GET, path, &[("if-none-match", &tag)], "").await }
    };
    for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
        let answer = again(known.clone()).await;
        assert_eq!((answer.status, answer.text.as_str()), (304, ""), "{known}");
        assert_eq!(answer.header("etag"), tag);
    }
    // An invalid tag is ignored: the whole answer is always correct.
    for unknown in ["\"x\"", "x", ""] {
        assert_eq!(again(unknown.to_owned()).await.status, 200, "{unknown}");
    }
    // A sale changes the product.
    server.order(lamp, 1).await;
    let changed = again(tag.clone()).await;
    assert_eq!((changed.status, changed.json()["stock"].as_i64()), (200, Some(9)));
    assert_ne!(changed.header("etag"), tag);
}

#[tokio::test]
async fn a_stale_write_changes_nothing() {
    let server = Server::start().await;
    let lamp = server.product(10).await;
    let path = format!("/products/{lamp}");
    let created = server.api.get(&path).await.header("etag").to_owned();
    let put = async |condition: (&str, &str), body: Value| {
        with(&server, Method::PUT, &path, condition, &body).await
    };
    let answer = put(("if-match", &created), json!({ "price": 5 })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let current = answer.header("etag").to_owned();
    assert_eq!(server.api.get(&path).await.header("etag"), current);

    let before = server.contents().await;
    for stale in [created.as_str(), "\"x\"", &format!("W/{created}")] {
        let answer = put(("if-match", stale), json!({ "price": 6 })).await;
        assert_eq!(answer.status, 412, "{stale}: {}", answer.text);
        let problem = answer.problem();
        assert_eq!(problem["type"], "/problems/precondition-failed");
        assert_eq!((&problem["version"], &problem["product_id"]), (&json!(2), &json!(lamp)));
        let answer = with(&server, Method::DELETE, &path, ("if-match", stale), &json!({})).await;
        assert_eq!(answer.status, 412, "{stale}");
    }
    assert_eq!(put(("if-none-match", "*"), json!({ "price": 6 })).await.status, 412);
    for malformed in ["x", "\"x", "W/x", ",", "*, \"x\""] {
        let answer = put(("if-match", malformed), json!({ "price": 6 })).await;
        assert_eq!(answer.status, 422, "{malformed}");
        assert_eq!(answer.wrong_fields(), ["If-Match"]);
        let answer =
            with(&server, Method::DELETE, &path, ("if-match", malformed), &json!({})).await;
        assert_eq!(answer.wrong_fields(), ["If-Match"]);
    }
    assert_eq!(server.contents().await, before, "something changed");

    // One of two writers with the same tag wins.
    let (one, other) = tokio::join!(
        put(("if-match", &current), json!({ "stock_change": 1 })),
        put(("if-match", &current), json!({ "stock_change": 1 })),
    );
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
    assert_eq!(server.api.get(&path).await.json()["stock"], 11);
    let tag = server.api.get(&path).await.header("etag").to_owned();
    let answer = with(&server, Method::DELETE, &path, ("if-match", &tag), &json!({})).await;
    assert_eq!(answer.status, 204);
}

#[tokio::test]
async fn stock_changes_by_a_number_of_units_and_each_change_is_recorded() {
    let server = Server::start().await;
    let lamp = server.product(10).await;
    let path = format!("/products/{lamp}");
    let stock = format!("{path}/stock");
    let answer = server.api.post(&stock, &json!({ "delta": 5, "reason": "delivery 7" })).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let entry = answer.json();
    assert_eq!(
        [&entry["delta"], &entry["stock"], &entry["version"], &entry["reason"], &entry["kind"]],
        [&json!(5), &json!(15), &json!(2), &json!("delivery 7"), &json!("adjustment")]
    );
    assert_eq!(server.api.get(&path).await.json()["stock"], 15, "the cache has heard of it");

    let before = server.contents().await;
    for (delta, kind, allowed) in [
        (-16, "/problems/not-enough-stock", "-15 to 999999985"),
        (1_000_000_000, "/problems/stock-full", "-15 to 999999985"),
    ] {
        let answer = server.api.post(&stock, &json!({ "delta": delta, "reason": "x" })).await;
        assert_eq!(answer.status, 409, "{}", answer.text);
        let problem = answer.problem();
        assert_eq!((problem["type"].as_str(), problem["left"].as_i64()), (Some(kind), Some(15)));
        assert!(problem["detail"].as_str().unwrap().contains(allowed), "{problem}");
    }
    for (body, fields) in [
        (json!({}), &["delta", "reason"][..]),
        (json!({ "delta": 0, "reason": "" }), &["delta", "reason"]),
        (json!({ "delta": 1.5, "reason": "x".repeat(501) }), &["delta", "reason"]),
        (json!({ "delta": i64::MIN, "reason": "x" }), &["delta"]),
    ] {
        let answer = server.api.post(&stock, &body).await;
        assert_eq!(
            (answer.status, answer.wrong_fields()),
            (422, fields.iter().map(ToString::to_string).collect()),
            "{body}"
        );
    }
    assert_eq!(
        server.api.post("/products/4711/stock", &json!({ "delta": 1, "reason": "x" })).await.status,
        404
    );
    assert_eq!(server.contents().await, before, "something changed");
}

#[tokio::test]
async fn a_change_of_stock_with_a_key_happens_once() {
    let server = Server::start().await;
    let lamp = server.product(10).await;
    let stock = format!("/products/{lamp}/stock");
    let send = async |key: &str, body: Value| {
        with(&server, Method::POST, &stock, ("idempotency-key", key), &body).await
    };
    let body = json!({ "delta": 5, "reason": "delivery" });
    // Several requests at once, like an impatient client.
    let answers = futures::future::join_all((0..8).map(|_| send("k1", body.clone()))).await;
    for answer in &answers {
        assert_eq!((answer.status, answer.json()), (201, answers[0].json()), "{}", answer.text);
    }
    let replayed =
        answers.iter().filter(|answer| answer.header("idempotency-replayed") == "true").count();
    assert_eq!(replayed, 7);
    let other = send("k1", json!({ "delta": 6, "reason": "delivery" })).await;
    assert_eq!(
        (other.status, other.problem()["type"].as_str()),
        (422, Some("/problems/idempotency-key-reused"))
    );
    // An order with the key of an adjustment is a different request, too.
    let order = json!({ "product_id": lamp, "quantity": 1 });
    let other = with(&server, Method::POST, "/orders", ("idempotency-key", "k1"), &order).await;
    assert_eq!(other.status, 422, "{}", other.text);
    for wrong in ["", &"k".repeat(10_000)] {
        assert_eq!(send(wrong, body.clone()).await.wrong_fields(), ["Idempotency-Key"]);
    }
    assert_eq!(server.api.get(&format!("/products/{lamp}")).await.json()["stock"], 15);
}
