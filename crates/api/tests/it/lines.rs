//! Orders of several lines.

use holdfast_api::admission::{AdmissionSettings, Refusal};
use holdfast_domain::{ProductId, Shortfall};
use serde_json::json;

use crate::{
    lanes::{lanes, lanes_on, lock, not_enough, one, order, place},
    server::{self, Server},
};

#[tokio::test]
async fn an_order_of_several_lines_is_taken_whole_or_not_at_all() {
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
    // The same product on two lines is one line with the sum of both.
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
async fn an_order_that_misses_a_row_waits_in_that_rows_lane_with_empty_hands() {
    let lanes = lanes(AdmissionSettings::default()).await;
    let (lamp, vase) = (lanes.product(10).await, lanes.product(10).await);
    let holder = lock(&lanes.store, &[vase]).await;
    let admission = lanes.admission.clone();
    let both = tokio::spawn(async move { place(&admission, order(&[(lamp, 1), (vase, 1)])).await });
    lanes.apart(1).await;
    // The other row is free for everybody all the while.
    for _ in 0..5 {
        lanes.place(lamp, 1).await.unwrap();
    }
    assert!(!both.is_finished());
    holder.release().await.unwrap();
    both.await.unwrap().unwrap();
    assert_eq!((lanes.stock(lamp).await, lanes.stock(vase).await), (4, 9));
}

#[tokio::test]
async fn an_order_moves_on_to_the_next_row_that_it_misses() {
    let lanes = lanes(AdmissionSettings::default()).await;
    let (lamp, vase) = (lanes.product(10).await, lanes.product(10).await);
    let (first, second) = (lock(&lanes.store, &[lamp]).await, lock(&lanes.store, &[vase]).await);
    let admission = lanes.admission.clone();
    let both = tokio::spawn(async move { place(&admission, order(&[(vase, 2), (lamp, 2)])).await });
    lanes.apart(1).await;
    second.release().await.unwrap();
    lanes
        .until("the row that was missed first is free", async || lanes.stock(vase).await == 10)
        .await;
    assert!(!both.is_finished());
    first.release().await.unwrap();
    both.await.unwrap().unwrap();
    assert_eq!((lanes.stock(lamp).await, lanes.stock(vase).await), (8, 8));
}

#[tokio::test]
async fn an_unknown_product_among_known_ones_is_told_apart_from_a_locked_one() {
    let lanes = lanes(AdmissionSettings::default()).await;
    let lamp = lanes.product(10).await;
    let unknown = Refusal::Short(Shortfall::UnknownProduct(ProductId(999)));
    let demand = order(&[(lamp, 1), (ProductId(999), 1)]);
    assert_eq!(place(&lanes.admission, demand.clone()).await, Err(unknown));
    let holder = lock(&lanes.store, &[lamp]).await;
    let admission = lanes.admission.clone();
    let placing = tokio::spawn(async move { place(&admission, demand).await });
    lanes.apart(1).await;
    holder.release().await.unwrap();
    assert_eq!(placing.await.unwrap(), Err(unknown));
    assert_eq!(place(&lanes.admission, order(&[(lamp, 11)])).await, Err(not_enough(lamp, 10)));
}

/// Two replicas whose orders cross each other's rows in every direction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crossing_orders_of_two_replicas_neither_deadlock_nor_starve() {
    const ORDERS: usize = 150;
    let url = server::database().await;
    let replicas = [
        lanes_on(&url, AdmissionSettings::default()).await,
        lanes_on(&url, AdmissionSettings::default()).await,
    ];
    let mut products = Vec::new();
    for _ in 0..4 {
        products.push(replicas[0].product(100_000).await);
    }
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..16_usize {
        let admission = replicas[worker % 2].admission.clone();
        let mut asked = products.clone();
        tasks.spawn(async move {
            for round in 0..ORDERS {
                asked.rotate_left((worker + round) % 3 + 1);
                let lines: Vec<_> =
                    asked.iter().take(1 + (worker + round) % 3).map(|id| (*id, 1)).collect();
                place(&admission, order(&lines)).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let sold: i64 = sqlx::query_scalar(
        "SELECT (SELECT sum(quantity) FROM orders) + (SELECT sum(quantity) FROM order_lines)",
    )
    .fetch_one(replicas[0].store.pool())
    .await
    .unwrap();
    let mut left = 0;
    for id in &products {
        left += replicas[0].stock(*id).await;
    }
    assert_eq!(left + sold, 400_000);
    assert_eq!(replicas[0].orders().await, 16 * 150);
    // What is over is over: the lanes of the crossings end.
    for lanes in &replicas {
        lanes.apart(0).await;
        place(&lanes.admission, one(products[0], 1)).await.unwrap();
    }
}

#[tokio::test]
async fn at_another_price_than_the_customer_was_told_nothing_is_ordered_or_held() {
    let server = Server::start().await;
    let (lamp, vase) = (server.product(5).await, server.product(5).await);
    let hold = json!({ "product_id": lamp, "quantity": 1, "expected_price": "499.90" });
    let hold = server.api.post("/holds", &hold).await;
    assert_eq!(hold.status, 201, "{}", hold.text);
    // The page that the customer has seen is older than this.
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
    // What is kept costs what it cost then.
    let kept = json!({ "product_id": lamp, "quantity": 1, "hold_id": hold.json()["id"], "expected_price": 499.90 });
    assert_eq!(server.api.post("/orders", &kept).await.status, 201);
    let told = json!({ "product_id": lamp, "quantity": 1, "expected_price": 520 });
    assert_eq!(server.api.post("/orders", &told).await.status, 201);
}
