//! A case for each writing operation: a request, and the expected state of the database after its
//! success.

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::openapi::{documents, operations};

/// The objects of one request, which no other request uses.
#[derive(Debug, sqlx::FromRow)]
pub struct WriteTarget {
    number: i64,
    pub product: i64,
    pub pending: i64,
    pub failed: i64,
    pub hold: i64,
    #[sqlx(skip)]
    stays: bool,
}

impl WriteTarget {
    /// `stays` names the client that removes the sale, because there may be a thousand sales. Keys expire by
    /// themselves.
    pub async fn make(look: &PgPool, stays: bool) -> Self {
        let mut given: Self = sqlx::query_as(
            "WITH product AS (INSERT INTO products (name, price_minor, stock, held) \
                 VALUES ('Lamp', 100, 100, 1) RETURNING id), \
             made AS (INSERT INTO orders (product_id, quantity, unit_price_minor, status, \
                     processing_at, finished_at) \
                 SELECT id, 1, 100, status, now(), CASE WHEN status = 'failed' THEN now() END \
                 FROM product, (VALUES ('pending'), ('failed')) AS kind (status) \
                 RETURNING id, status), \
             held AS (INSERT INTO holds (product_id, quantity, unit_price_minor, expires_at) \
                 SELECT id, 1, 100, now() + interval '1 hour' FROM product RETURNING id) \
             SELECT nextval('orders_id_seq') AS number, (SELECT id FROM product) AS product, \
                 (SELECT id FROM made WHERE status = 'pending') AS pending, \
                 (SELECT id FROM made WHERE status = 'failed') AS failed, \
                 (SELECT id FROM held) AS hold",
        )
        .fetch_one(look)
        .await
        .unwrap();
        sqlx::query(
            "INSERT INTO api_keys (id, secret_sha256, name, scopes, expires_at) \
             VALUES ($1, sha256($1::text::bytea), 'test', '{orders:read}', now() + interval '5 s')",
        )
        .bind(given.key())
        .execute(look)
        .await
        .unwrap();
        given.stays = stays;
        sqlx::query(
            "WITH gone AS (DELETE FROM sales \
                 WHERE name LIKE 'goes-%' AND created_at < now() - interval '2 s'), \
             sale AS (INSERT INTO sales (name, starts_at, ends_at, after_order) \
                 SELECT $1, now() + interval '1 hour', now() + interval '2 hours', 0 RETURNING id) \
             INSERT INTO sale_products (sale_id, product_id, summed_to) SELECT id, $2, 1 FROM sale",
        )
        .bind(given.sale())
        .bind(given.product)
        .execute(look)
        .await
        .unwrap();
        given
    }

    pub fn key(&self) -> String {
        format!("{:012}", self.number)
    }

    pub fn sale(&self) -> String {
        format!("{}-{}", if self.stays { "stays" } else { "goes" }, self.number)
    }
}

pub type DoneQuery = Box<dyn Fn(&Value) -> String + Send>;

/// A request, and the expected state of the database after its success.
pub struct WriteCase {
    pub method: Method,
    pub path: String,
    pub body: Value,
    pub done: DoneQuery,
}

#[allow(clippy::too_many_lines)] // a line or two for each operation
pub fn write_case(operation: &str, it: &WriteTarget) -> Option<WriteCase> {
    let by = || json!({ "by": "ada" });
    let order_is = |id: i64, status: &'static str| {
        let sql = format!("(SELECT status = '{status}' FROM orders WHERE id = {id})");
        move |_: &Value| sql.clone()
    };
    let exists = |table: &'static str| {
        move |answer: &Value| {
            let id =
                answer["id"].as_str().map_or_else(|| answer["id"].to_string(), ToOwned::to_owned);
            format!("EXISTS (SELECT FROM {table} WHERE id::text = '{id}')")
        }
    };
    let product_is = |condition: String| {
        let sql = format!("(SELECT {condition} FROM products WHERE id = {})", it.product);
        move |_: &Value| sql.clone()
    };
    let sql = |sql: String| move |_: &Value| sql.clone();
    let (path, body, done): (String, Value, DoneQuery) = match operation {
        "post /products" => (
            "/products".to_owned(),
            json!({ "name": "Vase", "price": 12.5, "stock": 5 }),
            Box::new(exists("products")),
        ),
        "put /products/{id}" => (
            format!("/products/{}", it.product),
            json!({ "price": 77.25 }),
            Box::new(product_is("price_minor = 7725".to_owned())),
        ),
        "delete /products/{id}" => (
            format!("/products/{}", it.product),
            Value::Null,
            Box::new(product_is("retired_at IS NOT NULL".to_owned())),
        ),
        "post /products/{id}/stock" => (
            format!("/products/{}/stock", it.product),
            json!({ "delta": 11, "reason": "adjustment" }),
            Box::new(product_is("stock = 111".to_owned())),
        ),
        "post /orders" => (
            "/orders".to_owned(),
            json!({ "product_id": it.product, "quantity": 1 }),
            Box::new(exists("orders")),
        ),
        "post /orders/{id}/cancel" => (
            format!("/orders/{}/cancel", it.pending),
            Value::Null,
            Box::new(order_is(it.pending, "cancelled")),
        ),
        "post /holds" => (
            "/holds".to_owned(),
            json!({ "product_id": it.product, "quantity": 1 }),
            Box::new(exists("holds")),
        ),
        "delete /holds/{id}" => (
            format!("/holds/{}", it.hold),
            Value::Null,
            Box::new(sql(format!(
                "(SELECT status = 'released' FROM holds WHERE id = {})",
                it.hold
            ))),
        ),
        "post /api-keys" => (
            "/api-keys".to_owned(),
            json!({ "name": "test", "scopes": ["orders:read"] }),
            Box::new(exists("api_keys")),
        ),
        "delete /api-keys/{id}" => (
            format!("/api-keys/{}", it.key()),
            Value::Null,
            Box::new(sql(format!(
                "(SELECT revoked_at IS NOT NULL FROM api_keys WHERE id = '{}')",
                it.key()
            ))),
        ),
        "put /sales/{name}" => (
            format!("/sales/{}", it.sale()),
            json!({
                "products": [it.product], "per_customer": 2,
                "starts_at": "2036-11-27T10:00:00Z", "ends_at": "2036-11-27T12:00:00Z",
            }),
            Box::new(sql(format!(
                "(SELECT per_customer = 2 FROM sales WHERE name = '{}')",
                it.sale()
            ))),
        ),
        "delete /sales/{name}" => (
            format!("/sales/{}", it.sale()),
            Value::Null,
            Box::new(sql(format!("NOT EXISTS (SELECT FROM sales WHERE name = '{}')", it.sale()))),
        ),
        "post /dead-letters/replay" => (
            "/dead-letters/replay".to_owned(),
            json!({ "by": "ada", "ids": [it.failed] }),
            Box::new(order_is(it.failed, "pending")),
        ),
        "post /dead-letters/{id}/replay" => (
            format!("/dead-letters/{}/replay", it.failed),
            by(),
            Box::new(order_is(it.failed, "pending")),
        ),
        "post /dead-letters/{id}/discard" => (
            format!("/dead-letters/{}/discard", it.failed),
            by(),
            Box::new(order_is(it.failed, "cancelled")),
        ),
        // It writes nothing that could be lost.
        "put /log-level" => {
            ("/log-level".to_owned(), json!({ "log": "info" }), Box::new(sql("true".to_owned())))
        }
        _ => return None,
    };
    let method = operation.split(' ').next().unwrap().to_uppercase();
    Some(WriteCase { method: Method::from_bytes(method.as_bytes()).unwrap(), path, body, done })
}

/// Every writing operation of the documents, and whether it is for operators.
pub fn writing_operations() -> Vec<(String, bool)> {
    let mut found = Vec::new();
    for (document, is_admin) in documents().iter().zip([false, true]) {
        for (path, method, _) in operations(document) {
            if !matches!(&*method, "GET" | "HEAD" | "OPTIONS") {
                found.push((format!("{} {path}", method.to_lowercase()), is_admin));
            }
        }
    }
    found
}

#[test]
fn every_writing_operation_has_a_case() {
    let given = WriteTarget { number: 1, product: 1, pending: 1, failed: 1, hold: 1, stays: false };
    let operations = writing_operations();
    assert!(operations.len() >= 15, "{operations:?}");
    for (operation, _) in operations {
        assert!(write_case(&operation, &given).is_some(), "{operation} has no case here");
    }
}
