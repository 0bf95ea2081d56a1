//! JSON that clients send and the shop stores does no harm.

use std::{fs, process::Command};

use holdfast_sandbox::{Process, ProcessOptions, Redis, RedisOptions};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::{
    client::{ApiAnswer, Client},
    server::{BINARY, Server, addresses, database},
};

/// The memory limit of the API in the chart.
const MEMORY: u64 = 512 << 20;

/// Metadata that a JSON parser would change.
const SENT: [&str; 8] = [
    "{}",
    r#"{ "b" : 1.50, "a":[ ] , "b":2 }"#,
    r#"{"z":123456789012345678901234567890,"y":9007199254740993,"x":-0.0,"w":1E+2,"v":1e-7}"#,
    r#"{"a":[5e-324,0.1e1,2.2250738585072011e-308,1.7976931348623157e308,0.30000000000000004]}"#,
    r#"{"\u00e4":"\u00e4\/\ud83d\ude00\n\"","\ta":"☃ é"}"#,
    r#"{"$serde_json::private::RawValue":"[1]","$serde_json::private::Number":"1"}"#,
    "{\"a\":\n\t[1,\r\n 2]}",
    r#"{"a":{"a":{"a":[[[[[[null,true,false]]]]]]}}}"#,
];

/// JSON within strings. A parser that recognizes the special key of `serde_json` parses each string with a new
/// recursion limit, until its stack overflows. The result has at most this many bytes.
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

/// Each operation of a document with a body, with ids in its path.
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
async fn no_body_crashes_the_process() {
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
async fn no_row_crashes_the_process() {
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

async fn order_with(
    server: &Server,
    product: i64,
    metadata: &str,
    headers: &[(&str, &str)],
) -> ApiAnswer {
    let body = format!(r#"{{"product_id":{product},"quantity":1,"metadata": {metadata} }}"#);
    let mut headers = headers.to_vec();
    headers.push(("content-type", "application/json"));
    server.api.send(Method::POST, "/orders", &headers, body).await
}

#[tokio::test]
async fn metadata_is_returned_byte_for_byte() {
    let server = Server::start().await;
    let product = server.product(1_000).await;
    let mut paths = Vec::new();
    for (number, sent) in SENT.into_iter().enumerate() {
        let there =
            |answer: &ApiAnswer| answer.text.contains(&format!(r#","metadata":{sent},"status""#));
        let key = number.to_string();
        for _ in 0..2 {
            let answer = order_with(&server, product, sent, &[("idempotency-key", &key)]).await;
            assert_eq!(answer.status, 201, "{sent}: {}", answer.text);
            assert!(there(&answer), "{sent}: {}", answer.text);
            paths.push(answer.header("location").to_owned());
        }
        assert!(there(&server.api.get(paths.last().unwrap()).await), "{sent}");
        assert!(there(&server.api.get("/orders?limit=1").await), "{sent}");
    }
    // Failed long ago, and then archived.
    let age =
        "UPDATE orders SET status = 'failed', processing_at = created_at, finished_at = now()";
    sqlx::raw_sql(age).execute(server.store.pool()).await.unwrap();
    let dead = server.admin.get("/dead-letters").await.text;
    let show = Command::new(BINARY)
        .args(["dead-letters", "list", "-o", "json"])
        .env("DATABASE_URL", &server.database_url)
        .env("REDIS_URL", server.redis.url())
        .output()
        .unwrap();
    let show = String::from_utf8(show.stdout).unwrap();
    sqlx::raw_sql(
        "UPDATE orders SET status = 'completed', created_at = now() - interval '9 days', \
             finished_at = now() - interval '9 days'; DELETE FROM idempotency_keys",
    )
    .execute(server.store.pool())
    .await
    .unwrap();
    let folder = tempdir().unwrap();
    let archived = Command::new(BINARY)
        .args(["archive", "--older-than-days", "1", "--to"])
        .arg(folder.path())
        .env("DATABASE_URL", &server.database_url)
        .output()
        .unwrap();
    assert!(archived.status.success(), "{archived:?}");
    let mut files = String::new();
    for file in fs::read_dir(folder.path()).unwrap() {
        files += &fs::read_to_string(file.unwrap().path()).unwrap();
    }
    for sent in SENT {
        let sent = format!(r#","metadata":{sent},"status""#);
        assert!(dead.contains(&sent), "{sent}");
        assert!(show.contains(&sent), "{sent}: {show}");
        assert!(files.contains(&sent), "{sent}");
    }
}

#[tokio::test]
async fn metadata_is_accepted_up_to_its_documented_size_and_must_be_an_object() {
    let server = Server::start().await;
    let product = server.product(10).await;
    let document = server.api.get("/openapi.json").await.text;
    assert!(document.contains("at most 4096 bytes"), "the document says the limit");
    let long = |bytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8));
    assert_eq!(order_with(&server, product, &long(4096), &[]).await.status, 201);
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(62), "]".repeat(62));
    assert_eq!(order_with(&server, product, &deep, &[]).await.status, 201);
    for bad in [
        &long(4097),
        r#"{"a":"\u0000"}"#,
        r#"{"\u0000":1}"#,
        r#"{"a":"\ud800"}"#,
        r#"{"a":"\udc00\ud800"}"#,
        r#"{"a":1e309}"#,
        r#"{"a":1e-99999}"#,
        "[]",
        "7",
        r#""{}""#,
    ] {
        let answer = order_with(&server, product, bad, &[]).await;
        assert_eq!(answer.status, 422, "{bad}: {}", answer.text);
        assert_eq!(answer.wrong_fields(), ["metadata"], "{bad}");
    }
}

#[tokio::test]
async fn invisible_texts_and_unusual_notations_are_refused() {
    let server = Server::start().await;
    let product = server.product(10).await;
    for text in [r"\u200b", r"\ufeff\u2060", r"\u00a0", r"\u202e\u202c", r"\u0301", r"\u3164"] {
        let body = format!(r#"{{"name":"{text}","price":1,"stock":1}}"#);
        let answer = server.api.json(Method::POST, "/products", body).await;
        assert_eq!(
            (answer.status, answer.wrong_fields()),
            (422, vec!["name".to_owned()]),
            "{text}"
        );
        let body = format!(r#"{{"product_id":{product},"quantity":1,"customer_ref":"{text}"}}"#);
        let answer = server.api.json(Method::POST, "/orders", body).await;
        assert_eq!((answer.status, answer.wrong_fields()), (422, vec!["customer_ref".to_owned()]));
    }
    for price in ["1_0e0", "1_0", "+1", "1e0", "1.", ".5", "0x1", " 1", "١", "1,0", ""] {
        let body = format!(r#"{{"name":"x","price":"{price}","stock":1}}"#);
        let answer = server.api.json(Method::POST, "/products", body).await;
        assert_eq!(
            (answer.status, answer.wrong_fields()),
            (422, vec!["price".to_owned()]),
            "{price}"
        );
    }
    for path in ["/orders/+1", "/orders?limit=%2B1", "/products?limit=%2B1"] {
        assert_eq!(server.api.get(path).await.status, 422, "{path}");
    }
    let marked = format!("\u{feff}{{\"product_id\":{product},\"quantity\":1}}");
    let answer = server.api.json(Method::POST, "/orders", marked).await;
    let detail = &answer.problem()["errors"][0]["detail"];
    assert!(detail.as_str().unwrap().contains("byte order mark"), "{detail}");
    // Orders that were accepted before these rules can still be read.
    sqlx::query("UPDATE products SET name = $1")
        .bind("\u{200b}")
        .execute(server.store.pool())
        .await
        .unwrap();
    let order = server.order(product, 1).await.json()["id"].clone();
    sqlx::query("UPDATE orders SET customer_ref = $1")
        .bind("\u{200b}")
        .execute(server.store.pool())
        .await
        .unwrap();
    for path in ["/products".to_owned(), "/orders".to_owned(), format!("/orders/{order}")] {
        assert_eq!(server.api.get(&path).await.status, 200, "{path}");
    }
}

/// An API with the memory limit of the chart.
async fn bounded(database_url: &str, redis: &Redis) -> (Process, Client) {
    let options = ProcessOptions::new("/usr/bin/prlimit")
        .arg(format!("--data={MEMORY}"))
        .arg(BINARY)
        .arg("serve")
        .env("HOLDFAST_HTTP_ADDR", "127.0.0.1:0")
        .env("HOLDFAST_METRICS_ADDR", "127.0.0.1:0")
        .env("HOLDFAST_ADMIN_ADDR", "127.0.0.1:0")
        .env("HOLDFAST_AUTH", "off")
        .env("DATABASE_URL", database_url)
        .env("REDIS_URL", redis.url());
    let process = Process::start(options).await.unwrap();
    let [api, _, _] = addresses(&process).await;
    (process, Client::new(&api))
}

/// Orders of the previous version, whose metadata is 50 times as long as text as it was when it was sent.
const EXPANDED: &str = "INSERT INTO orders (product_id, quantity, unit_price_minor, metadata) \
    SELECT 1, 1, 1, (SELECT jsonb_build_object('a', jsonb_agg('5e-324'::numeric)) \
        FROM generate_series(1, 1160)) FROM generate_series(1, 600)";
/// The largest order of this version, with the maximum number of lines and the longest reason, which is escaped in
/// JSON.
const LARGEST: &str = "INSERT INTO orders (product_id, quantity, unit_price_minor, metadata_text, failure) \
    SELECT 1, 1, 1, '{\"a\":\"' || repeat('x', 4088) || '\"}', repeat(chr(1), 1000) FROM generate_series(1, 1000)";

#[tokio::test]
async fn the_largest_orders_are_listed_within_the_memory_of_the_chart() {
    for (orders, count) in [(EXPANDED, 600), (LARGEST, 1000)] {
        let (database_url, redis) =
            (database().await, Redis::start(RedisOptions::default()).await.unwrap());
        let pool = sqlx::PgPool::connect(&database_url).await.unwrap();
        sqlx::raw_sql("INSERT INTO products (name, price_minor, stock) VALUES ('One', 100, 9)")
            .execute(&pool)
            .await
            .unwrap();
        sqlx::raw_sql(orders).execute(&pool).await.unwrap();
        let (process, api) = bounded(&database_url, &redis).await;
        let pages = (0..12).map(|_| api.get("/orders?limit=1000"));
        for page in futures::future::join_all(pages).await {
            assert!([200, 503].contains(&page.status), "{}", page.text);
            assert!(page.text.len() < 8 << 20, "{}", page.text.len());
        }
        let (mut seen, mut path) =
            (std::collections::BTreeSet::new(), "/orders?limit=1000".to_owned());
        loop {
            let page = process
                .until("there is room for the page", async || {
                    let page = api.get(&path).await;
                    assert!([200, 503].contains(&page.status), "{}", page.text);
                    (page.status == 200).then_some(page)
                })
                .await;
            for order in page.json().as_array().unwrap() {
                assert!(seen.insert(order["id"].as_i64().unwrap()), "shown twice");
            }
            let link = page.header("link");
            if link.is_empty() {
                break;
            }
            path = link[1..link.find('>').unwrap()].to_owned();
        }
        assert_eq!(seen.len(), count);
        assert!(process.status().is_none(), "{}", process.log_tail(5));
    }
}
