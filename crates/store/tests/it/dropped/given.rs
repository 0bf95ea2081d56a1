//! The data for the cases.

use holdfast_domain::{HoldId, OrderId, ProductId, SaleName};
use holdfast_store::{BatchToken, Store};
use sqlx::PgPool;

/// The data of a case, which no other case uses.
#[derive(Clone, Debug)]
pub struct Given {
    pub store: Store,
    pub token: BatchToken,
    pub number: i64,
    pub product: ProductId,
    pub pending: OrderId,
    pub failed: OrderId,
    pub old: OrderId,
    pub hold: HoldId,
    pub key: String,
    pub sale: SaleName,
}

impl Given {
    /// Created on a connection of `look`.
    pub async fn make(look: &PgPool, store: &Store, token: &BatchToken) -> Self {
        let (number, product, pending, failed, old, hold): (i64, i64, i64, i64, i64, i64) =
            sqlx::query_as(
                "WITH product AS (INSERT INTO products (name, price_minor, stock) \
                     VALUES ('Lamp', 100, 100) RETURNING id), \
                 made AS (INSERT INTO orders (product_id, quantity, unit_price_minor, status, \
                         processing_at, finished_at, created_at) \
                     SELECT id, 1, 100, status, now(), \
                         CASE WHEN status <> 'pending' THEN now() - age END, now() - age \
                     FROM product, (VALUES ('pending', interval '1 s'), ('failed', '1 s'), \
                         ('completed', '9 days')) AS kind (status, age) \
                     RETURNING id, status), \
                 held AS (INSERT INTO holds (product_id, quantity, unit_price_minor, expires_at) \
                     SELECT id, 1, 100, now() - interval '1 s' FROM product RETURNING id) \
                 SELECT nextval('orders_id_seq'), (SELECT id FROM product), \
                     (SELECT id FROM made WHERE status = 'pending'), \
                     (SELECT id FROM made WHERE status = 'failed'), \
                     (SELECT id FROM made WHERE status = 'completed'), (SELECT id FROM held)",
            )
            .fetch_one(look)
            .await
            .unwrap();
        Self {
            store: store.clone(),
            token: token.clone(),
            number,
            product: ProductId(product),
            pending: OrderId(pending),
            failed: OrderId(failed),
            old: OrderId(old),
            hold: HoldId(hold),
            key: format!("{number:012}"),
            sale: SaleName::new(format!("sale-{number}")).unwrap(),
        }
    }
}
