//! A database with Holdfast's tables, some products and orders, and a matching log.

use holdfast_bench::audit::Log;
use holdfast_bench::load::Accepted;
use holdfast_sandbox::shared_postgres;
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};

pub struct AuditFixture {
    pub url: String,
    pub connection: PgConnection,
    pub log: Log,
}

/// Products 1 and 2 with 100 units each, and 20 orders of them.
pub async fn fixture() -> AuditFixture {
    let url = shared_postgres()
        .await
        .unwrap()
        .create_database_from("bench", async |url| {
            let mut connection = PgConnection::connect(&url).await?;
            sqlx::migrate!("../../../migrations").run(&mut connection).await?;
            connection.close().await?;
            Ok(())
        })
        .await
        .unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    connection
        .execute(
            "INSERT INTO products (name, price_minor, stock) VALUES ('One', 100, 100), ('Two', 100, 100)",
        )
        .await
        .unwrap();
    // The orders below enter the ledger as admission does it.
    connection.execute("SET holdfast.writes_ledger = 'on'").await.unwrap();
    let rows = connection
        .fetch_all(
            "WITH ordered AS (INSERT INTO orders (product_id, quantity, unit_price_minor) \
                 SELECT 1 + n % 2, 1 + n % 3, 100 FROM generate_series(1, 20) AS n RETURNING *), \
             taken AS (UPDATE products SET stock = stock - sums.units, version = version + 1 FROM \
                 (SELECT product_id, sum(quantity) AS units FROM ordered GROUP BY 1) AS sums \
                 WHERE products.id = sums.product_id RETURNING id, version, stock, units), \
             entered AS (INSERT INTO stock_ledger (product_id, version, reason, delta, stock_after, \
                     held_after, sold) \
                 SELECT id, version, 'admission', -units, stock, 0, units FROM taken) \
             SELECT id, product_id, quantity FROM ordered",
        )
        .await
        .unwrap();
    let accepted = rows
        .iter()
        .map(|row| Accepted { id: row.get(0), product_id: row.get(1), quantity: row.get(2) })
        .collect();
    connection.execute("RESET holdfast.writes_ledger").await.unwrap();
    let log = Log { initial_stock: [(1, 100), (2, 100)].into(), accepted, ..Log::default() };
    AuditFixture { url, connection, log }
}
