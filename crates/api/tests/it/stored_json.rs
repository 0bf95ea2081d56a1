//! JSON that clients send and the shop keeps: it can do no harm.

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::Server;

/// JSON within texts: a reader that takes the key for `serde_json`'s own parses each text with a
/// fresh recursion limit, until its stack is used up. At most so many bytes.
pub fn bomb(bytes: usize) -> String {
    let wrap = |text: &str, key: &str| {
        // Escaped so that each level adds five bytes to an escape instead of doubling it.
        let text = text.replace('\\', "\\u005c").replace('"', "\\u0022");
        format!("{{\"x\":{}{{\"{key}\":\"{text}\"}}{}}}", "[".repeat(55), "]".repeat(55))
    };
    let mut bomb = String::from("{}");
    for key in
        ["$serde_json::private::RawValue", "\\u0024serde_json::private::RawValue"].iter().cycle()
    {
        let wrapped = wrap(&bomb, key);
        if wrapped.len() > bytes {
            break;
        }
        bomb = wrapped;
    }
    bomb
}

/// Each operation of a document that takes a body, with ids put into its path.
fn operations_with_body(document: &Value) -> Vec<(Method, String)> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.replace("{name}", "x").replace("{id}", "1");
        assert!(!path.contains('{'), "{path}");
        for (method, operation) in item.as_object().unwrap() {
            if operation.get("requestBody").is_some() {
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                operations.push((method, path.clone()));
            }
        }
    }
    operations
}

#[tokio::test]
async fn no_body_ends_the_process() {
    let server = Server::start().await;
    let product = server.product(1_000_000).await;
    let mut operations = 0;
    for client in [&server.api, &server.admin] {
        let document = client.get("/openapi.json").await.json();
        for (method, path) in operations_with_body(&document) {
            operations += 1;
            for bytes in [3_000, 8_000, 46_000, 500_000] {
                let bomb = bomb(bytes);
                let fields = [
                    "metadata",
                    "items",
                    "customer_ref",
                    "name",
                    "note",
                    "by",
                    "scopes",
                    "products",
                    "order_ids",
                    "reason",
                    "unknown",
                ];
                let mut bodies =
                    vec![bomb.clone(), format!("[{bomb}]"), format!("{{\"items\":[{bomb}]}}")];
                bodies.extend(fields.map(|field| {
                    format!("{{\"product_id\":{product},\"quantity\":1,\"{field}\":{bomb}}}")
                }));
                for body in bodies {
                    let answer = client.json(method.clone(), &path, body).await;
                    assert!(
                        (200..500).contains(&answer.status),
                        "{method} {path}: {}",
                        answer.text
                    );
                }
            }
        }
    }
    assert!(operations >= 10, "{operations}");
    assert_eq!(server.api.get("/orders?limit=1000").await.status, 200);
    assert!(server.process.status().is_none(), "{}", server.process.log_tail(5));
}

#[tokio::test]
async fn no_row_ends_the_process() {
    let server = Server::start().await;
    let product = server.product(10).await;
    let order = server.order(product, 1).await.json()["id"].clone();
    sqlx::query(
        "UPDATE orders SET metadata = $1::jsonb, status = 'failed', \
         processing_at = now(), finished_at = now()",
    )
    .bind(bomb(300_000))
    .execute(server.store.pool())
    .await
    .unwrap();
    let path = format!("/orders/{order}");
    for path in [path.as_str(), "/orders", "/orders?status=failed"] {
        let answer = server.api.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.text.contains("RawValue"), "{path}");
    }
    for path in ["/dead-letters".to_owned(), format!("/dead-letters/{order}")] {
        assert_eq!(server.admin.get(&path).await.status, 200, "{path}");
    }
    let replay =
        server.admin.post(&format!("/dead-letters/{order}/replay"), &json!({ "by": "ada" })).await;
    assert_eq!(replay.status, 200, "{}", replay.text);
    assert_eq!(server.api.post(&format!("{path}/cancel"), &json!({})).await.status, 200);
    assert!(server.process.status().is_none());
}
