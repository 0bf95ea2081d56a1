//! Requests that could be misunderstood are refused, and URLs in answers work behind any proxy.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    openapi::{documents, operations},
    server::Server,
};

#[tokio::test]
async fn each_operation_refuses_unknown_parameters_and_names_the_known_ones() {
    let server = Server::start().await;
    let mut sent = 0;
    for (client, document) in [&server.api, &server.admin].into_iter().zip(documents()) {
        for (path, method, operation) in operations(&document) {
            let name = format!("{method} {path}");
            let path = path.replace("{id}", "1").replace("{name}", "x");
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            for slash in ["", "/"] {
                let path = format!("{path}{slash}?colour=red&colour=blue");
                let answer = client.json(method.clone(), &path, "").await;
                assert_eq!(answer.status, 422, "{name}: {}", answer.text);
                assert_eq!(answer.wrong_fields(), ["colour"], "{name}");
                let detail = answer.problem()["detail"].as_str().unwrap().to_owned();
                for parameter in operation["parameters"].as_array().into_iter().flatten() {
                    if parameter["in"] == "query" {
                        assert!(detail.contains(parameter["name"].as_str().unwrap()), "{detail}");
                    }
                }
            }
            assert!(operation["responses"]["422"].is_object(), "{name}");
            sent += 1;
        }
    }
    assert!(sent > 30, "{sent}");
}

#[tokio::test]
async fn each_operation_without_a_body_refuses_one_and_changes_nothing() {
    let server = Server::start().await;
    let product = server.product(10).await;
    let order = server.order(product, 3).await.json();
    let body = json!({ "items": [{ "product_id": product, "quantity": 1 }] }).to_string();
    let mut sent = 0;
    for (client, document) in [&server.api, &server.admin].into_iter().zip(documents()) {
        for (path, method, operation) in operations(&document) {
            if !operation["requestBody"].is_null() {
                continue;
            }
            let path = path.replace("{id}", &order["id"].to_string()).replace("{name}", "x");
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let answer = client.json(method.clone(), &path, body.clone()).await;
            assert_eq!(
                (answer.status, answer.wrong_fields()),
                (422, vec!["body".to_owned()]),
                "{method} {path}"
            );
            sent += 1;
        }
    }
    assert!(sent > 15, "{sent}");
    let path = format!("/orders/{}", order["id"]);
    assert_eq!(server.api.get(&path).await.json()["status"], "pending");
    // An empty body counts as none.
    let cancelled = server.api.json(Method::POST, &format!("{path}/cancel"), "{}").await;
    assert_eq!(cancelled.json()["status"], "cancelled");
}

#[tokio::test]
async fn unknown_fields_are_refused_with_strict_handling() {
    let server = Server::start().await;
    let product = server.product(10).await;
    let body =
        json!({ "items": [{ "product_id": product, "quantity": 1, "size": "L" }], "coupon": "x" });
    let json = ("content-type", "application/json");
    for strict in ["handling=strict", "respond-async, Handling=\"Strict\"; wait=1"] {
        let headers = [json, ("prefer", strict)];
        let answer = server.api.send(Method::POST, "/orders", &headers, body.to_string()).await;
        assert_eq!(answer.status, 422, "{strict}: {}", answer.text);
        assert_eq!(answer.wrong_fields(), ["coupon", "items[0].size"]);
    }
    let headers = [json, ("prefer", "handling=lenient")];
    let answer = server.api.send(Method::POST, "/orders", &headers, body.to_string()).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
}

#[tokio::test]
async fn urls_begin_with_the_public_url() {
    let server = Server::with(&[("HOLDFAST_PUBLIC_URL", "https://shop.example/api/")]).await;
    let product = server.product(10).await;
    server.product(10).await;
    let order = server.order(product, 1).await;
    let location = format!("https://shop.example/api/orders/{}", order.json()["id"]);
    assert_eq!(order.header("location"), location);
    let page = server.api.get("/products?limit=1").await;
    assert!(page.header("link").starts_with("<https://shop.example/api/products?limit=1&cursor="));
    assert_eq!(server.api.get("/").await.header("location"), "https://shop.example/api/docs");
    let document = server.api.get("/openapi.json").await.json();
    assert_eq!(document["servers"], json!([{ "url": "https://shop.example/api" }]));
}

#[tokio::test]
async fn urls_use_the_host_and_prefix_of_a_trusted_proxy() {
    let forwarded = [
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "shop.example"),
        ("x-forwarded-prefix", "/api"),
    ];
    for (trusted, base) in [("127.0.0.1", "https://shop.example/api"), ("192.0.2.1", "")] {
        let server = Server::with(&[("HOLDFAST_TRUSTED_PROXIES", trusted)]).await;
        let answer = server.api.send(Method::GET, "/redoc", &forwarded, "").await;
        assert_eq!(answer.header("location"), format!("{base}/docs"), "{trusted}");
        let answer = server.api.send(Method::GET, "/openapi.json", &forwarded, "").await;
        let url = if base.is_empty() { "." } else { base };
        assert_eq!(answer.json()["servers"], json!([{ "url": url }]), "{trusted}");
    }
}

#[tokio::test]
async fn pages_of_other_origins_may_send_trace_headers_and_configured_headers() {
    let settings = [
        ("HOLDFAST_CORS_ORIGINS", "https://shop.example"),
        ("HOLDFAST_CORS_HEADERS", "x-shop-session,x-tenant"),
    ];
    let server = Server::with(&settings).await;
    let asked = [("origin", "https://shop.example"), ("access-control-request-method", "POST")];
    let answer = server.api.send(Method::OPTIONS, "/orders", &asked, "").await;
    let allowed = answer.header("access-control-allow-headers").to_owned();
    for header in ["traceparent", "tracestate", "baggage", "prefer", "x-shop-session", "x-tenant"] {
        assert!(allowed.split(',').any(|name| name.trim() == header), "{header}: {allowed}");
    }
}

#[tokio::test]
async fn the_page_of_a_problem_serves_browsers_and_programs() {
    let server = Server::start().await;
    let html = [("accept", "text/html,application/xhtml+xml,*/*;q=0.8")];
    for path in ["/problems/order-moved", "/problems"] {
        let page = server.api.send(Method::GET, path, &html, "").await;
        assert_eq!((page.status, page.header("vary")), (200, "Accept"), "{path}");
        assert!(page.header("content-type").starts_with("text/html"), "{path}");
        assert!(
            page.text.contains("<code>state</code>") && !page.text.contains('`'),
            "{}",
            page.text
        );
        let answer = server.api.get(path).await;
        assert_eq!(answer.header("content-type"), "application/json", "{path}");
    }
}

/// Each text that looks like a time.
fn times<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    match value {
        Value::String(text) if text.len() > 18 && text.as_bytes()[10] == b'T' => found.push(text),
        Value::Array(all) => all.iter().for_each(|one| times(one, found)),
        Value::Object(all) => all.values().for_each(|one| times(one, found)),
        _ => {}
    }
}

#[tokio::test]
async fn each_time_has_six_digits_and_ends_with_z() {
    let server = Server::start().await;
    let product = server.product(10).await;
    let order = server.order(product, 3).await.json();
    let hold = json!({ "product_id": product, "quantity": 1 });
    let whole = "2036-11-27T10:00:00+01:00";
    let sale =
        json!({ "products": [product], "starts_at": whole, "ends_at": "2036-11-27T11:00:00Z" });
    let key = json!({ "name": "x", "scopes": ["admin"], "expires_at": whole });
    let (api, admin) = (&server.api, &server.admin);
    let mut answers = vec![
        order.clone(),
        api.post("/holds", &hold).await.json(),
        api.post(&format!("/orders/{}/cancel", order["id"]), &json!({})).await.json(),
        admin.post("/api-keys", &key).await.json(),
        admin.put("/sales/x", &sale).await.json(),
        api.post("/orders", &hold).await.json(),
    ];
    for path in [
        format!("/orders/{}", order["id"]),
        format!("/products/{product}/stock-ledger"),
        "/holds".to_owned(),
    ] {
        answers.push(api.get(&path).await.json());
    }
    answers.push(admin.get("/stats").await.json());
    for answer in &answers {
        let mut found = Vec::new();
        times(answer, &mut found);
        assert!(!found.is_empty(), "{answer}");
        for time in found {
            assert!(
                time.len() == 27 && time.ends_with('Z') && time.as_bytes()[19] == b'.',
                "{time}"
            );
        }
    }
}
