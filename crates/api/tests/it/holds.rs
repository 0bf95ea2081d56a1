//! Holds, and the return of their units.

use serde_json::json;

use crate::server::Server;

#[tokio::test]
async fn a_hold_is_created_used_and_ended() {
    let server = Server::start().await;
    let lamp = server.product(5).await;
    let made = server
        .api
        .post("/holds", &json!({ "product_id": lamp, "quantity": 3, "customer_ref": "ada" }))
        .await;
    assert_eq!(made.status, 201, "{}", made.text);
    let hold = made.json();
    assert_eq!(made.header("location"), format!("/holds/{}", hold["id"]));
    assert_eq!((&hold["status"], &hold["unit_price"]), (&json!("active"), &json!(499.9)));
    let time = |name: &str| hold[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(time("expires_at").duration_since(time("created_at")).as_secs(), 900);

    // Held units cannot be bought by others.
    let short = server.order(lamp, 3).await;
    assert_eq!((short.status, short.problem()["left"].as_i64()), (409, Some(2)));
    // The price was fixed with the hold.
    server.api.put(&format!("/products/{lamp}"), &json!({ "price": 1 })).await;
    let wrong = json!({ "product_id": lamp, "quantity": 2, "hold_id": hold["id"] });
    assert_eq!(server.api.post("/orders", &wrong).await.wrong_fields(), ["hold_id"]);
    let order = json!({ "product_id": lamp, "quantity": 3, "hold_id": hold["id"] });
    let placed = server.api.post("/orders", &order).await;
    assert_eq!(
        (placed.status, &placed.json()["unit_price"]),
        (201, &json!(499.9)),
        "{}",
        placed.text
    );
    assert_eq!(server.api.get(&format!("/products/{lamp}")).await.json()["stock"], 2);

    let again = server.api.post("/orders", &order).await;
    assert_eq!((again.status, again.problem()["state"].as_str()), (409, Some("used")));
    let path = format!("/holds/{}", hold["id"]);
    let release = server.api.delete(&path).await;
    assert_eq!((release.status, release.problem()["state"].as_str()), (409, Some("used")));
    assert_eq!(server.api.delete("/holds/999").await.status, 404);
    let unknown = json!({ "product_id": lamp, "quantity": 3, "hold_id": 999 });
    assert_eq!(server.api.post("/orders", &unknown).await.status, 404);
}

#[tokio::test]
async fn a_released_hold_returns_its_units_once() {
    let server = Server::start().await;
    let lamp = server.product(5).await;
    let body = json!({ "product_id": lamp, "quantity": 5 });
    let hold = server.api.post("/holds", &body).await.json();
    assert_eq!(server.order(lamp, 1).await.status, 409);
    let path = format!("/holds/{}", hold["id"]);
    assert_eq!(server.api.delete(&path).await.status, 204);
    let again = server.api.delete(&path).await;
    assert_eq!((again.status, again.problem()["state"].as_str()), (409, Some("released")));
    // They are sold at once, although the product was known to be sold out.
    assert_eq!(server.order(lamp, 5).await.status, 201);
}

#[tokio::test]
async fn a_hold_with_wrong_fields_is_refused() {
    let server = Server::start().await;
    let lamp = server.product(5).await;
    let before = server.contents().await;
    for seconds in ["-1", "0", "315360000", "1e99"] {
        let body = format!(r#"{{"product_id":{lamp},"quantity":0,"seconds":{seconds}}}"#);
        let answer = server.api.json(reqwest::Method::POST, "/holds", body).await;
        assert_eq!(answer.wrong_fields(), ["quantity", "seconds"], "{seconds}");
    }
    let unknown = server.api.post("/holds", &json!({ "product_id": 999, "quantity": 1 })).await;
    assert_eq!(unknown.status, 404);
    assert_eq!(server.contents().await, before);
}

#[tokio::test]
async fn an_order_is_cancelled_once_and_its_units_are_returned() {
    let server = Server::start().await;
    let lamp = server.product(3).await;
    let id = server.order(lamp, 3).await.json()["id"].as_i64().unwrap();
    assert_eq!(server.order(lamp, 1).await.status, 409);
    let path = format!("/orders/{id}/cancel");
    // Of two clients at once, exactly one succeeds.
    let body = json!({});
    let (one, other) = tokio::join!(server.api.post(&path, &body), server.api.post(&path, &body));
    let (won, lost) = if one.status == 200 { (one, other) } else { (other, one) };
    assert_eq!((won.status, &won.json()["status"]), (200, &json!("cancelled")), "{}", won.text);
    assert_eq!((lost.status, lost.problem()["state"].as_str()), (409, Some("cancelled")));
    assert_eq!(server.api.get(&format!("/products/{lamp}")).await.json()["stock"], 3);
    assert_eq!(server.order(lamp, 3).await.status, 201);

    for status in ["processing", "completed", "failed"] {
        sqlx::query("UPDATE orders SET status = $1 WHERE id > $2")
            .bind(status)
            .bind(id)
            .execute(server.store.pool())
            .await
            .unwrap();
        let late = server.api.post(&format!("/orders/{}/cancel", id + 1), &body).await;
        assert_eq!((late.status, late.problem()["state"].as_str()), (409, Some(status)));
    }
    assert_eq!(server.api.post("/orders/999/cancel", &body).await.status, 404);
    assert_eq!(server.api.post("/orders/x/cancel", &body).await.wrong_fields(), ["id"]);
}
