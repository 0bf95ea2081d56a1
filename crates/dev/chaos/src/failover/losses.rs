//! What is lost, doubled, oversold, or done twice after a failover.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use super::LoadRecord;
use super::load::KeyedOrder;
use crate::downstream::Downstream;

/// What breaks a promise.
#[derive(Clone, Debug, Default)]
pub struct Losses {
    /// The customers of orders that were answered with 201 and do not exist.
    pub lost: Vec<String>,
    /// Orders of a customer who has another one, although both requests had the same key.
    pub doubled: i64,
    /// Products of which more units are in orders than there were.
    pub oversold: usize,
    /// Orders of requests that were only refused.
    pub refused_and_there: i64,
    /// Customers for whom the receiver has fulfilled two orders.
    pub done_twice: BTreeSet<String>,
    /// Ids of messages that the receiver got for two orders.
    pub same_message: usize,
}

impl Losses {
    /// Compares the database and the receiver with what the clients have seen. `accepted` are the orders to look for.
    pub(super) async fn find(
        database: &mut PgConnection,
        downstream: &Downstream,
        accepted: &[KeyedOrder],
        without: &[String],
        stock: &LoadRecord,
    ) -> anyhow::Result<Self> {
        let lost = sqlx::query_scalar(
            "SELECT told.customer FROM unnest($1::bigint[], $2::text[]) AS told (id, customer) \
             LEFT JOIN orders ON orders.id = told.id AND orders.customer_ref = told.customer \
             WHERE orders.id IS NULL",
        )
        .bind(accepted.iter().map(|it| it.order.id).collect::<Vec<_>>())
        .bind(accepted.iter().map(|it| it.customer.as_str()).collect::<Vec<_>>())
        .fetch_all(&mut *database)
        .await?;
        let doubled = sqlx::query_scalar(
            "SELECT coalesce(sum(count - 1), 0)::bigint FROM \
             (SELECT count(*) FROM orders GROUP BY customer_ref HAVING count(*) > 1) AS twice",
        )
        .fetch_one(&mut *database)
        .await?;
        let refused_and_there =
            sqlx::query_scalar("SELECT count(*) FROM orders WHERE customer_ref = ANY ($1)")
                .bind(without)
                .fetch_one(&mut *database)
                .await?;
        let sold: Vec<(i64, i64)> = sqlx::query_as(
            "SELECT product_id, sum(quantity)::bigint FROM orders \
             WHERE status <> 'cancelled' GROUP BY product_id",
        )
        .fetch_all(database)
        .await?;
        let oversold = sold
            .iter()
            .filter(|(product, units)| stock.stock.get(product).is_some_and(|had| units > had))
            .count();
        let (done_twice, same_message) = downstream.confusions();
        Ok(Self { lost, doubled, oversold, refused_and_there, done_twice, same_message })
    }
}
