//! Orders of several lines.

use serde_json::json;

use crate::server::Server;

#[tokio::test]
async fn an_order_of_several_lines_is_accepted_completely_or_not_at_all() {
    let server = Server::start().await;
    let (lamp, vase) = (server.product(5).await, server.product(1).await);
    let order = |lamps: i64, vases: i64| {
        json!({ "items": [
            { "product_id": vase, "quantity": vases },
            { "product_id": lamp, "quantity": lamps },
            { "product_id": lamp, "quantity": 1 },
        ], "customer_ref": "ada", "metadata": { "gift": true } })
    };
    let before = server.contents().await;
    let short = server.api.post("/orders", &order(1, 2)).await;
    assert_eq!(short.status, 409);
    assert_eq!(
        (short.problem()["product_id"].as_i64(), short.problem()["left"].as_i64()),
        (Some(vase), Some(1))
    );
    let mut unknown = order(1, 1);
    unknown["items"][2]["product_id"] = json!(999);
    let unknown = server.api.post("/orders", &unknown).await;
    assert_eq!((unknown.status, unknown.problem()["product_id"].as_i64()), (404, Some(999)));
    assert_eq!(server.contents().await, before);

    let placed = server.api.post("/orders", &order(3, 1)).await;
    assert_eq!(placed.status, 201, "{}", placed.text);
    let body = placed.json();
    let line = |product: i64, units: i64| json!({ "product_id": product, "quantity": units, "unit_price": 499.9 });
    // Two lines of the same product become one line with the sum.
    assert_eq!(body["items"], json!([line(vase, 1), line(lamp, 4)]));
    assert_eq!(body.get("product_id"), None, "one of several would be a lie");
    let shown = server.api.get(&format!("/orders/{}", body["id"])).await.json();
    assert_eq!(shown["items"], body["items"]);
    assert_eq!(
        (&shown["customer_ref"], &shown["metadata"]),
        (&json!("ada"), &json!({ "gift": true }))
    );
    for (product, left) in [(lamp, 1), (vase, 0)] {
        let product = server.api.get(&format!("/products/{product}")).await.json();
        assert_eq!(product["stock"], left);
    }
}

#[tokio::test]
async fn nothing_is_ordered_or_held_at_another_price_than_expected() {
    let server = Server::start().await;
    let (lamp, vase) = (server.product(5).await, server.product(5).await);
    let hold = json!({ "product_id": lamp, "quantity": 1, "expected_price": "499.90" });
    let hold = server.api.post("/holds", &hold).await;
    assert_eq!(hold.status, 201, "{}", hold.text);
    // The customer saw an older price.
    server.api.put(&format!("/products/{lamp}"), &json!({ "price": 520 })).await;
    let before = server.contents().await;
    let one = json!({ "product_id": lamp, "quantity": 1, "expected_price": 499.9 });
    let items = json!({ "items": [{ "product_id": vase, "quantity": 1 }, one] });
    for (path, body) in [("/orders", &one), ("/orders", &items), ("/holds", &one)] {
        let refused = server.api.post(path, body).await;
        let problem = refused.problem();
        assert_eq!((refused.status, &problem["type"]), (409, &json!("/problems/price-changed")));
        assert_eq!(
            (&problem["product_id"], &problem["current_price"]),
            (&json!(lamp), &json!(520.0))
        );
    }
    let contradictory =
        json!({ "items": [one, { "product_id": lamp, "quantity": 1, "expected_price": 1 }] });
    assert_eq!(server.api.post("/orders", &contradictory).await.wrong_fields(), ["items[1]"]);
    let wrong = json!({ "product_id": lamp, "quantity": 1, "expected_price": -1 });
    assert_eq!(server.api.post("/orders", &wrong).await.wrong_fields(), ["expected_price"]);
    assert_eq!(server.contents().await, before);
    assert_eq!(server.metric("holdfast_orders_refused_total{reason=\"price_changed\"}").await, 3);
    // Units of a hold cost the price of that time.
    let kept = json!({ "product_id": lamp, "quantity": 1, "hold_id": hold.json()["id"], "expected_price": 499.90 });
    assert_eq!(server.api.post("/orders", &kept).await.status, 201);
    let told = json!({ "product_id": lamp, "quantity": 1, "expected_price": 520 });
    assert_eq!(server.api.post("/orders", &told).await.status, 201);
}
