//! Reading orders.

use holdfast_domain::{Order, OrderId, OrderStatus, ProductId};

use crate::{
    Store, StoreError,
    rows::{self, order_columns},
};

/// Which orders of the list, newest first.
#[derive(Clone, Copy, Debug)]
pub struct OrderPage {
    /// Only those with a smaller id: the last id of the page before.
    pub before: Option<OrderId>,
    /// Only those of this product.
    pub product: Option<ProductId>,
    /// Only those in this status.
    pub status: Option<OrderStatus>,
    /// At most that many.
    pub limit: i64,
}

impl Store {
    /// One order.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn order(&self, id: OrderId) -> Result<Option<Order>, StoreError> {
        let row = sqlx::query(concat!("SELECT ", order_columns!(), " FROM orders WHERE id = $1"))
            .bind(id.0)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(rows::order).transpose()
    }

    /// A page of orders, newest first.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn orders(&self, page: &OrderPage) -> Result<Vec<Order>, StoreError> {
        // One statement for each filter that has an index: a single one with `$1 IS NULL OR …`
        // would get a plan that fits none of them.
        let query = match page.product {
            Some(product) => sqlx::query(concat!(
                "SELECT ",
                order_columns!(),
                " FROM orders WHERE product_id = $4 AND id < $1 AND ($2::text IS NULL OR status = $2) \
                 ORDER BY id DESC LIMIT $3"
            ))
            .bind(page.before.map_or(i64::MAX, |id| id.0))
            .bind(page.status.map(OrderStatus::as_str))
            .bind(page.limit)
            .bind(product.0),
            None => sqlx::query(concat!(
                "SELECT ",
                order_columns!(),
                " FROM orders WHERE id < $1 AND ($2::text IS NULL OR status = $2) \
                 ORDER BY id DESC LIMIT $3"
            ))
            .bind(page.before.map_or(i64::MAX, |id| id.0))
            .bind(page.status.map(OrderStatus::as_str))
            .bind(page.limit),
        };
        query.fetch_all(&self.pool).await?.iter().map(rows::order).collect()
    }
}
