//! What web pages of other sites can do to a server without keys on a developer's machine.

use std::{process::Command, time::Duration};

use reqwest::Method;
use serde_json::json;

use crate::server::{BINARY, Server};

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn without_keys_pages_of_other_sites_change_nothing() {
    let server = Server::with(&[("HOLDFAST_CORS_ORIGINS", "https://admin.shop.test")]).await;
    let product = server.product(10).await;
    let order = json!({ "product_id": product, "quantity": 1 }).to_string();
    let key = json!({ "name": "mine", "scopes": ["admin"] }).to_string();
    let own = format!("http://{}", server.api.address);
    let own_admin = format!("http://{}", server.admin.address);
    for header in [
        ("origin", "https://evil.test"),
        ("origin", "null"),
        ("origin", "http://127.0.0.1:1"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        for (client, method, path, body) in [
            (&server.api, Method::POST, "/orders", order.as_str()),
            (&server.api, Method::POST, "/orders/1/cancel", ""),
            (&server.api, Method::PUT, "/products/1", "{}"),
            (&server.api, Method::DELETE, "/products/1", ""),
            (&server.admin, Method::POST, "/api-keys", key.as_str()),
            (&server.admin, Method::POST, "/dead-letters/replay", "{}"),
        ] {
            let headers = if body.is_empty() { vec![header] } else { vec![header, JSON] };
            let answer = client.send(method, path, &headers, body.to_owned()).await;
            assert_eq!(answer.status, 403, "{header:?} {path}");
            assert_eq!(answer.problem()["type"], "/problems/forbidden");
        }
        let read = server.api.send(Method::GET, "/products", &[header], "").await;
        assert_eq!(read.status, 200, "reading is the browser's affair: {header:?}");
    }
    assert_eq!(server.contents().await.1, json!([]));
    for headers in [
        &[JSON][..],
        &[JSON, ("origin", &own), ("sec-fetch-site", "same-origin")],
        &[JSON, ("origin", "https://admin.shop.test"), ("sec-fetch-site", "cross-site")],
    ] {
        let answer = server.api.send(Method::POST, "/orders", headers, order.clone()).await;
        assert_eq!(answer.status, 201, "{headers:?}: {}", answer.text);
    }
    let headers = [JSON, ("origin", own_admin.as_str())];
    let answer = server.admin.send(Method::POST, "/api-keys", &headers, key).await;
    assert_eq!(answer.status, 201, "Swagger UI of the admin port: {}", answer.text);
}

#[tokio::test]
async fn without_keys_foreign_host_names_are_refused() {
    let server = Server::with(&[("HOLDFAST_ALLOWED_HOSTS", "shop.test,other.test")]).await;
    let status = async |client: &crate::client::Client, host: &str, path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        client.raw(request.as_bytes(), Duration::from_secs(10)).await.statuses()
    };
    for client in [&server.api, &server.admin] {
        for path in ["/products", "/openapi.json", "/docs/", "/problems"] {
            let refused = status(client, "evil.test", path).await;
            assert_eq!(refused, [403], "{path}");
            let ours = status(client, "shop.test:80", path).await;
            assert_ne!(ours, [403], "{path}");
        }
        assert_eq!(status(client, "evil.test", "/livez").await, [200], "probes have any name");
    }
    for ours in ["localhost:1", "127.0.0.1", "[::1]:80", "other.test"] {
        assert_eq!(status(&server.api, ours, "/products").await, [200], "{ours}");
    }
}

#[tokio::test]
async fn with_keys_any_host_name_is_accepted() {
    let server = Server::with(&[("HOLDFAST_AUTH", "on")]).await;
    let request = b"GET /products HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n";
    assert_eq!(server.api.raw(request, Duration::from_secs(10)).await.statuses(), [401]);
}

#[test]
fn without_keys_the_server_listens_only_on_this_host_by_default() {
    let start = |env: &[(&str, &str)]| {
        let output = Command::new(BINARY)
            .arg("serve")
            .env("DATABASE_URL", "postgres://u@127.0.0.1:1/db")
            .env("REDIS_URL", "redis://127.0.0.1:1")
            .env("HOLDFAST_METRICS_ADDR", "127.0.0.1:0")
            .env("HOLDFAST_AUTH", "off")
            .envs(env.iter().copied())
            .output()
            .unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    for (name, address) in [
        ("HOLDFAST_HTTP_ADDR", "0.0.0.0:0"),
        ("HOLDFAST_HTTP_ADDR", "[::]:0"),
        ("HOLDFAST_HTTP_ADDR", "192.0.2.1:0"),
        ("HOLDFAST_ADMIN_ADDR", "0.0.0.0:0"),
    ] {
        let text = start(&[(name, address)]);
        assert!(
            text.starts_with(&format!("holdfast-api: {name} must be a loopback address")),
            "{text}"
        );
        assert!(text.contains("HOLDFAST_OPEN_TO_NETWORK") && text.lines().count() == 1, "{text}");
    }
}
