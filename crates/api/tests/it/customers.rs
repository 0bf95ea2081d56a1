//! A caller that is bound to one customer sees no internal data of the shop on any route.

use std::{collections::BTreeSet, time::Duration};

use holdfast_domain::OrderId;
use holdfast_store::{
    Attribution,
    fulfilment::{AttemptResult, Taken},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    access::{Bearer, GuardedShop},
    client::ApiAnswer,
};

/// A text that a customer must not see.
const SECRET: &str = "SECRET";

/// A shop with orders of ada in every state, each with internal data.
struct Planted {
    shop: GuardedShop,
    ada: Bearer,
    product: i64,
    /// Orders of ada, by status.
    orders: Vec<i64>,
    hold: i64,
    of_others: [i64; 2],
}

async fn try_once(shop: &GuardedShop, id: i64, verdict: AttemptResult, taken: Taken) {
    let store = &shop.server.store;
    let claims = store.claim(&[OrderId(id)], Duration::from_mins(5)).await.unwrap();
    let (order_id, attempt) = claims[0].id();
    let ended = holdfast_store::fulfilment::EndedClaim { order_id, attempt, verdict, taken };
    assert_eq!(store.finish(&[ended]).await.unwrap().done.len(), 1);
}

fn id_of(answer: &ApiAnswer) -> i64 {
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()["id"].as_i64().unwrap()
}

async fn planted() -> Planted {
    let shop = GuardedShop::start(&[]).await;
    let api = shop.admin.on(&shop.server.api);
    let lamp = json!({ "name": "Lamp", "price": 2, "stock": 100 });
    let product = id_of(&api.post("/products", &lamp).await);
    let scopes = ["products:read", "products:write", "orders:read", "orders:write"];
    let body = json!({ "name": "SECRET-KEY", "scopes": scopes, "customer_ref": "ada" });
    let ada = shop.bearer(body).await;
    let delta = json!({ "delta": 5, "reason": "SECRET-LEDGER" });
    let path = format!("/products/{product}/stock");
    assert_eq!(api.post(&path, &delta).await.status, 201);

    let one = json!({ "product_id": product, "quantity": 1 });
    let mut orders = Vec::new();
    for _ in 0..7 {
        orders.push(id_of(&ada.post("/orders", &one).await));
    }
    let [_pending, waiting, failed, discarded, replayed, done, processing] = orders[..] else {
        panic!("{orders:?}")
    };
    let why = || "no answer from http://SECRET-RECEIVER:9000: SECRET-BODY".to_owned();
    try_once(&shop, waiting, AttemptResult::Retry(Duration::from_hours(1), why()), Taken::Maybe)
        .await;
    for id in [failed, discarded, replayed, done] {
        try_once(&shop, id, AttemptResult::Retry(Duration::ZERO, why()), Taken::Maybe).await;
        try_once(&shop, id, AttemptResult::Failed(why()), Taken::Never).await;
    }
    let ordered = Attribution { by: "SECRET-OPERATOR", note: Some("SECRET-NOTE") };
    shop.server.store.replay(&[OrderId(replayed), OrderId(done)], ordered).await.unwrap();
    try_once(&shop, done, AttemptResult::Completed, Taken::Maybe).await;
    let body = json!({ "by": "SECRET-OPERATOR", "note": "SECRET-NOTE" });
    let path = format!("/dead-letters/{discarded}/discard");
    assert_eq!(shop.admin.post(&path, &body).await.status, 200);
    let lease = Duration::from_mins(5);
    shop.server.store.claim(&[OrderId(processing)], lease).await.unwrap();

    let hold = id_of(&ada.post("/holds", &one).await);
    let of_bob = json!({ "product_id": product, "quantity": 1, "customer_ref": "SECRET-BOB",
        "metadata": { "for": "SECRET-METADATA" } });
    let kept_for_bob =
        json!({ "product_id": product, "quantity": 1, "customer_ref": "SECRET-BOB" });
    let of_others = [
        id_of(&api.post("/orders", &of_bob).await),
        id_of(&api.post("/holds", &kept_for_bob).await),
    ];
    Planted { shop, ada, product, orders, hold, of_others }
}

impl Planted {
    /// Each request that ada may send, in the order in which they are sent, with the path of its operation.
    fn requests(&self) -> Vec<(Method, &'static str, String, Value)> {
        let [order_of_bob, hold_of_bob] = self.of_others;
        let mut all = Vec::new();
        let mut ask = |method: &Method, of: &'static str, path: String, body: &Value| {
            all.push((method.clone(), of, path, body.clone()));
        };
        let (get, post, nothing) = (Method::GET, Method::POST, Value::Null);
        let product = self.product;
        for query in ["", "?limit=1", "?status=failed", "?status=cancelled", "?customer_ref=ada"] {
            ask(&get, "/orders", format!("/orders{query}"), &nothing);
        }
        ask(&get, "/orders", format!("/orders?product_id={product}"), &nothing);
        ask(&get, "/products", "/products".to_owned(), &nothing);
        ask(&get, "/products/{id}", format!("/products/{product}"), &nothing);
        for hold in [self.hold, hold_of_bob] {
            ask(&get, "/holds", "/holds".to_owned(), &nothing);
            ask(&get, "/holds/{id}", format!("/holds/{hold}"), &nothing);
        }
        for order in self.orders.iter().chain([&order_of_bob]) {
            ask(&get, "/orders/{id}", format!("/orders/{order}"), &nothing);
            let cancel = format!("/orders/{order}/cancel");
            ask(&post, "/orders/{id}/cancel", cancel, &json!({}));
            ask(&get, "/orders/{id}", format!("/orders/{order}"), &nothing);
        }
        let one = json!({ "product_id": product, "quantity": 1 });
        for body in [
            one.clone(),
            json!({ "product_id": product, "quantity": 1, "hold_id": hold_of_bob }),
            json!({ "product_id": product, "quantity": 1, "customer_ref": "bob" }),
            json!({ "product_id": product, "quantity": 999 }),
        ] {
            ask(&post, "/orders", "/orders".to_owned(), &body);
        }
        ask(&post, "/holds", "/holds".to_owned(), &one);
        for hold in [self.hold, hold_of_bob] {
            ask(&Method::DELETE, "/holds/{id}", format!("/holds/{hold}"), &nothing);
        }
        all
    }
}

async fn send(bearer: &Bearer, method: &Method, path: &str, body: &Value) -> ApiAnswer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let key = [("idempotency-key", "the-same")];
    let headers: &[_] = if path == "/orders" && *method == Method::POST { &key } else { &[] };
    bearer.with(method.clone(), path, headers, &body).await
}

#[tokio::test]
async fn answers_to_customers_contain_no_internal_data() {
    let planted = planted().await;
    let (mut seen, mut granted) = (BTreeSet::new(), 0);
    for round in 0..2 {
        for (method, operation, path, body) in planted.requests() {
            let answer = send(&planted.ada, &method, &path, &body).await;
            assert_ne!(answer.status, 403, "{method} {path}");
            granted += usize::from(answer.status < 300);
            let said = format!("{answer:?}");
            assert!(!said.contains(SECRET), "{round}: {method} {path}: {said}");
            seen.insert(format!("{method} {operation}"));
        }
    }
    assert!(granted > 20, "{granted}");

    // Every operation of the documents has a case, except those that customers may not use.
    let (mut refused, server) = (0, &planted.shop.server);
    for port in [&server.api, &server.admin] {
        let document = port.get("/openapi.json").await.json();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, described) in operations.as_object().unwrap() {
                let Ok(method) = method.to_uppercase().parse::<Method>() else { continue };
                let operation = format!("{method} {path}");
                if seen.contains(&operation) || described["security"] == json!([]) {
                    continue;
                }
                let path = path.replace("{id}", "1").replace("{name}", "SECRET-SALE");
                let answer = send(&planted.ada.on(port), &method, &path, &json!({})).await;
                assert_eq!(answer.status, 403, "{operation}");
                assert!(!format!("{answer:?}").contains(SECRET), "{operation}");
                refused += 1;
            }
        }
    }
    assert!(refused > 10, "{refused}");
}

#[tokio::test]
async fn keys_of_the_shop_see_what_customers_do_not() {
    let planted = planted().await;
    let api = planted.shop.admin.on(&planted.shop.server.api);
    let mut said = String::new();
    for path in ["/orders".to_owned(), format!("/products/{}/stock-ledger", planted.product)] {
        said.push_str(&api.get(&path).await.text);
    }
    for order in &planted.orders {
        said.push_str(&api.get(&format!("/orders/{order}")).await.text);
    }
    for secret in ["RECEIVER", "BODY", "OPERATOR", "NOTE", "LEDGER", "BOB", "METADATA"] {
        assert!(said.contains(&format!("{SECRET}-{secret}")), "{secret}");
    }
    // The customer's own data is the same for both.
    let path = format!("/orders/{}", planted.orders[5]);
    let (own, all) = (planted.ada.get(&path).await.json(), api.get(&path).await.json());
    for field in ["id", "items", "status", "attempts", "created_at", "finished_at"] {
        assert_eq!(own[field], all[field], "{field}");
    }
    let steps = |order: &Value| -> Vec<Value> {
        let history = order["history"].as_array().unwrap();
        history.iter().map(|step| step["status"].clone()).collect()
    };
    assert_eq!(steps(&own), steps(&all));
}
