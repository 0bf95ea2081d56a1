//! A client of the reference API.

use serde_json::json;

use crate::server::Server;

#[tokio::test]
async fn a_client_of_the_reference_api_works_unchanged() {
    let server = Server::start().await;
    let api = &server.api;

    let created = api
        .post("/products/", &json!({ "name": "Mug", "price": 12.5, "stock": 10, "colour": "red" }))
        .await;
    assert_eq!(created.status, 201, "{}", created.text);
    let id = created.json()["id"].as_i64().unwrap();
    assert_eq!(created.header("location"), format!("/products/{id}"));
    let mug = json!({
        "id": id, "name": "Mug", "description": null, "price": 12.5, "stock": 10, "version": 1
    });
    assert_eq!(created.json(), mug);

    for path in [format!("/products/{id}"), format!("/products/{id}/")] {
        assert_eq!(api.get(&path).await.json(), mug);
    }
    for path in ["/products", "/products/", "/products/?skip=0&limit=10"] {
        assert_eq!(api.get(path).await.json(), json!([mug]));
    }

    let changed =
        api.put(&format!("/products/{id}/"), &json!({ "id": 99, "price": "13.00" })).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!(changed.json()["price"], 13.0);
    assert_eq!(changed.json()["name"], "Mug");
    assert_eq!(changed.json()["id"], id);

    let ordered = api.post("/orders/", &json!({ "product_id": id, "quantity": 3 })).await;
    assert_eq!(ordered.status, 201, "{}", ordered.text);
    let order = ordered.json();
    assert_eq!(ordered.header("location"), format!("/orders/{}", order["id"]));
    assert_eq!((&order["product_id"], &order["quantity"]), (&json!(id), &json!(3)));
    assert_eq!((&order["status"], &order["unit_price"]), (&json!("pending"), &json!(13.0)));
    let created_at: jiff::Timestamp = order["created_at"].as_str().unwrap().parse().unwrap();
    assert!((jiff::Timestamp::now().as_second() - created_at.as_second()).abs() < 60);

    // The read after the 201 shows the order's effect.
    assert_eq!(api.get(&format!("/products/{id}")).await.json()["stock"], 7);

    let shown = api.get(&format!("/orders/{}/", order["id"])).await;
    assert_eq!(shown.status, 200);
    for field in ["id", "product_id", "quantity", "unit_price", "status", "created_at"] {
        assert_eq!(shown.json()[field], order[field], "{field}");
    }
    assert_eq!(shown.json()["attempts"], 0);
    assert_eq!(api.get("/orders/").await.json()[0]["id"], order["id"]);

    let short = api.post("/orders", &json!({ "product_id": id, "quantity": 8 })).await;
    assert_eq!(short.status, 409);
    let problem = short.problem();
    assert_eq!(problem["type"], "/problems/not-enough-stock");
    assert_eq!((&problem["left"], &problem["product_id"]), (&json!(7), &json!(id)));

    for path in ["/health", "/health/"] {
        assert_eq!(api.get(path).await.json()["status"], "ok");
    }
    for path in ["/docs", "/docs/", "/docs/index.html", "/docs/swagger-initializer.js"] {
        let docs = api.get(path).await;
        assert!(docs.status == 200 && docs.text.contains("swagger-ui"), "{path}: {}", docs.text);
    }
    for path in ["/", "/redoc"] {
        let answer = api.get(path).await;
        assert!((300..400).contains(&answer.status));
        assert_eq!(answer.header("location"), "/docs");
    }
}

#[tokio::test]
async fn missing_resources_are_404() {
    let server = Server::start().await;
    let api = &server.api;
    for id in ["4711", "0", "-1", "9223372036854775807"] {
        for path in [format!("/products/{id}"), format!("/orders/{id}")] {
            let answer = api.get(&path).await;
            assert_eq!(answer.status, 404, "{path}");
            assert!(answer.problem()["detail"].as_str().unwrap().contains(id));
        }
        let product = format!("/products/{id}");
        assert_eq!(api.put(&product, &json!({ "stock": 1 })).await.status, 404);
        assert_eq!(api.delete(&product).await.status, 404);
        let order = json!({ "product_id": id.parse::<i64>().unwrap(), "quantity": 1 });
        let answer = api.post("/orders", &order).await;
        assert_eq!(answer.status, 404, "{}", answer.text);
        assert_eq!(answer.problem()["product_id"], order["product_id"]);
    }
}
