//! The initial data of `make run`: products, and what the examples of the OpenAPI documents refer to.
//!
//! | what | for the examples of |
//! |---|---|
//! | product 3 | orders, holds, changes of a product |
//! | product 7 | the flash sale `black-friday` |
//! | product 8 | `DELETE /products/{id}` |
//! | order 1, completed | `GET /orders/{id}` |
//! | order 2, pending until tomorrow | `POST /orders/{id}/cancel` |
//! | orders 3 to 6, failed | dead letters |
//! | hold 1 | `GET` and `DELETE /holds/{id}` |
//! | an API key with an unknown secret | `DELETE /api-keys/{id}` |

use std::time::Duration;

use anyhow::{Context as _, bail};
use holdfast_sandbox::{HttpAnswer, http_get, http_post_json, http_put_json};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

/// Name, description, price and stock.
const PRODUCTS: [(&str, &str, f64, u32); 8] = [
    ("Enamel mug", "Holds 350 ml, survives every drop", 12.90, 500),
    ("Field notebook", "Dotted, 96 pages, stays open", 9.50, 1_000),
    ("Head torch", "400 lumens, charges over USB-C", 34.00, 120),
    ("Wool blanket", "Woven, 130 by 180 cm", 89.00, 40),
    ("Espresso beans", "One kilogram, roasted this week", 21.75, 300),
    ("Sneaker, limited run", "The one that everybody wants at noon", 149.00, 100),
    ("Gift box", "On sale from November 2036 on", 59.00, 200),
    ("Poster, last year's", "To be deleted", 4.00, 3),
];

/// The product of the order and the hold.
const ORDERED: i64 = 3;
const ORDERS: usize = 6;
const WORKER_LIMIT: Duration = Duration::from_secs(30);

/// Some states cannot be reached quickly by requests: an order whose next attempt is tomorrow, so that it can be
/// cancelled; failed orders; and an API key with a fixed id, whose secret is unknown.
const STATES: [&str; 3] = [
    "UPDATE orders
     SET status = 'pending', attempt = 1, not_taken = 1, failure = 'the warehouse is closed',
         next_attempt_at = now() + interval '1 day', finished_at = NULL
     WHERE id = 2",
    "UPDATE orders
     SET status = 'failed', attempt = 1, not_taken = 1, failure = 'the carrier does not know the address'
     WHERE id BETWEEN 3 AND 6",
    "INSERT INTO api_keys (id, secret_sha256, name, scopes)
     VALUES ('k3v9wq2mzt7a', sha256(gen_random_uuid()::text::bytea), 'a key to be revoked', '{products:read}')",
];

/// The addresses of a running stack.
pub(crate) struct DemoShop<'a> {
    pub(crate) api: &'a str,
    pub(crate) admin: &'a str,
    pub(crate) database: &'a str,
}

impl DemoShop<'_> {
    /// Creates the data if there are no products yet. Returns the number of new products, and the id of the first
    /// product.
    pub(crate) async fn fill(&self) -> anyhow::Result<(usize, i64)> {
        let mut made = 0;
        let mut list = self.list().await?;
        if list.is_empty() {
            self.make().await?;
            made = PRODUCTS.len();
            list = self.list().await?;
        }
        let first = list.first().and_then(|product| product["id"].as_i64());
        Ok((made, first.context("GET /products shows no product")?))
    }

    async fn make(&self) -> anyhow::Result<()> {
        for (name, description, price, stock) in PRODUCTS {
            let product =
                json!({"name": name, "description": description, "price": price, "stock": stock});
            self.post("/products", &product).await?;
        }
        let order = json!({"product_id": ORDERED, "quantity": 1, "customer_ref": "customer-42"});
        for _ in 0..ORDERS {
            self.post("/orders", &order).await?;
        }
        let hold = json!({"product_id": ORDERED, "quantity": 2, "seconds": 86_400, "customer_ref": "customer-42"});
        self.post("/holds", &hold).await?;
        let sale = json!({
            "products": [7], "starts_at": "2036-11-27T10:00:00Z", "ends_at": "2036-11-27T11:00:00Z", "per_customer": 2
        });
        let url = format!("{}/sales/black-friday", self.admin);
        check(&url, &http_put_json(&url, &sale).await?)?;
        let completed = tokio::time::timeout(WORKER_LIMIT, self.orders_are_completed());
        completed.await.context("the worker does not complete the demo's orders")??;
        let mut connection = PgConnection::connect(self.database).await?;
        for statement in STATES {
            sqlx::query(statement).execute(&mut connection).await?;
        }
        connection.close().await?;
        Ok(())
    }

    async fn list(&self) -> anyhow::Result<Vec<Value>> {
        let url = format!("{}/products?limit=1", self.api);
        let answer = http_get(&url).await?;
        check(&url, &answer)?;
        match answer.json()? {
            Value::Array(list) => Ok(list),
            other => bail!("GET /products answered {other}"),
        }
    }

    /// Waits until no worker is processing the orders.
    async fn orders_are_completed(&self) -> anyhow::Result<()> {
        let url = format!("{}/orders?status=completed", self.api);
        loop {
            let answer = http_get(&url).await?;
            check(&url, &answer)?;
            if answer.json()?.as_array().is_some_and(|orders| orders.len() == ORDERS) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn post(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        let url = format!("{}{path}", self.api);
        check(&url, &http_post_json(&url, body).await?)
    }
}

fn check(url: &str, answer: &HttpAnswer) -> anyhow::Result<()> {
    if !matches!(answer.status, 200 | 201) {
        bail!("{url} answered {}: {}", answer.status, answer.body);
    }
    Ok(())
}
