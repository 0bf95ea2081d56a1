//! The baselines sell the stock in Holdfast's tables.

use holdfast_bench::pgbench::{Pgbench, Script, check, tidy};
use sqlx::Executor as _;

use crate::fixture::fixture;

#[tokio::test]
async fn both_scripts_order_and_their_sums_are_right() {
    let pgbench = Pgbench::find().unwrap();
    for script in [Script::ForUpdate, Script::SingleStatement] {
        let mut fixture = fixture().await;
        fixture
            .connection
            .execute("TRUNCATE orders; UPDATE products SET stock = 1000000")
            .await
            .unwrap();
        let outcome = pgbench.run(&fixture.url, script, 2, 2, 1).await.unwrap();
        assert!(outcome.orders_per_s > 0.0 && outcome.latency_mean_ms > 0.0, "{outcome:?}");
        let orders: i64 = sqlx::query_scalar("SELECT count(*) FROM orders")
            .fetch_one(&mut fixture.connection)
            .await
            .unwrap();
        assert!(orders > 0);
        check(&fixture.url, 1_000_000).await.unwrap();
        tidy(&fixture.url).await.unwrap();
        fixture.connection.execute("UPDATE products SET stock = stock - 1").await.unwrap();
        assert!(check(&fixture.url, 1_000_000).await.is_err());
    }
}
