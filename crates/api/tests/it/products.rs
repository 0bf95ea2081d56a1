//! Changing and retiring products.

use serde_json::{Value, json};

use crate::server::Server;

#[tokio::test]
async fn a_put_changes_only_the_given_fields() {
    let server = Server::start().await;
    let id = server.product(10).await;
    let path = format!("/products/{id}");
    let mut expected = server.api.get(&path).await.json();
    for (body, field, value) in [
        (json!({ "name": "Mill" }), "name", json!("Mill")),
        (json!({ "description": "Steel" }), "description", json!("Steel")),
        (json!({ "price": 0.1 }), "price", json!(0.1)),
        (json!({ "price": "99999999.99" }), "price", json!(99_999_999.99)),
        (json!({ "stock": 20 }), "stock", json!(20)),
        (json!({ "stock_change": -5 }), "stock", json!(15)),
        (json!({ "description": null, "id": 77, "created_at": "x" }), "description", Value::Null),
    ] {
        let answer = server.api.put(&path, &body).await;
        assert_eq!(answer.status, 200, "{body}: {}", answer.text);
        expected[field] = value;
        expected["version"] = json!(expected["version"].as_i64().unwrap() + 1);
        assert_eq!(answer.json(), expected, "{body}");
        // The cache was informed.
        assert_eq!(server.api.get(&path).await.json(), expected, "{body}");
    }
    assert_eq!(server.api.put(&path, &json!({})).await.json(), expected, "nothing to change");
}

#[tokio::test]
async fn a_put_with_an_old_version_changes_nothing() {
    let server = Server::start().await;
    let id = server.product(10).await;
    let path = format!("/products/{id}");
    assert_eq!(server.order(id, 1).await.status, 201);
    let answer = server.api.put(&path, &json!({ "stock": 10, "version": 1 })).await;
    assert_eq!(answer.status, 409);
    let problem = answer.problem();
    assert_eq!(problem["type"], "/problems/version-conflict");
    assert_eq!(problem["version"], 2);
    let product = server.api.get(&path).await.json();
    assert_eq!((&product["stock"], &product["version"]), (&json!(9), &json!(2)));
    let answer = server.api.put(&path, &json!({ "stock": 10, "version": 2 })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(server.api.put(&path, &json!({ "version": 2 })).await.status, 409);
}

#[tokio::test]
async fn a_deleted_product_is_gone_and_its_orders_stay() {
    let server = Server::start().await;
    let id = server.product(10).await;
    let path = format!("/products/{id}");
    let order = server.order(id, 2).await.json();
    assert_eq!(server.api.get(&path).await.status, 200);

    let answer = server.api.delete(&format!("{path}/")).await;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    assert_eq!(server.api.delete(&path).await.status, 404);
    assert_eq!(server.api.get(&path).await.status, 404);
    assert_eq!(server.api.put(&path, &json!({ "stock": 5 })).await.status, 404);
    assert_eq!(server.api.get("/products").await.json(), json!([]));
    assert_eq!(server.order(id, 1).await.status, 404);
    let kept = server.api.get(&format!("/orders/{}", order["id"])).await;
    assert_eq!(kept.json()["product_id"], id);
    assert_eq!(server.api.get(&format!("/orders?product_id={id}")).await.json()[0]["quantity"], 2);
}

#[tokio::test]
async fn a_product_that_stays_locked_is_503_in_limited_time() {
    let server = Server::with(&[("HOLDFAST_LOCK_TIMEOUT_MS", "200")]).await;
    let id = server.product(10).await;
    let other = server.product(10).await;
    let path = format!("/products/{id}");
    let before = server.api.get(&path).await.json();
    let locked = server.store.lock_product(holdfast_domain::ProductId(id)).await.unwrap().unwrap();

    for answer in [
        server.api.put(&path, &json!({ "stock": 5 })).await,
        server.api.delete(&path).await,
        server.order(id, 1).await,
    ] {
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert_eq!(answer.problem()["type"], "/problems/locked");
    }
    // The lock delays neither reads nor orders of other products.
    assert_eq!(server.api.get(&path).await.json(), before);
    assert_eq!(server.order(other, 1).await.status, 201);
    drop(locked);
    server.until("it is sold again", async || server.order(id, 1).await.status == 201).await;
}
