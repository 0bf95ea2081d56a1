//! Reading orders.
//!
//! Each filter of the list has an index: by customer, by product (one for first lines, one for the others), by
//! status. A page is read along one of them, in this order of preference. Orders that do not match the other
//! filters are skipped, up to [`LOOKED_AT_MAX`](crate::LOOKED_AT_MAX) orders.
//!
//! `orders` includes `unfinished_orders` and `completed_orders`, which have their own indexes. `ONLY orders`
//! contains orders that have ever failed, that were cancelled, or that the previous version has accepted.

use holdfast_domain::{CustomerRef, Order, OrderId, OrderStatus, ProductId};
use jiff::Timestamp;
use sqlx::{Postgres, QueryBuilder};

use crate::{
    error::StoreError,
    order_rows::{OrderRow, order_bytes, order_columns},
    page::{LOOKED_AT_MAX, PAGE_BYTES_MAX, Page, bytes_before},
    reads::Reads,
    sql::{checked, sql},
    store::Store,
    time::Time,
};

/// A page of the list of orders, newest first.
#[derive(Clone, Debug, Default)]
pub struct OrderPage {
    /// Where the previous page ended.
    pub after: Option<OrderPlace>,
    /// Only orders with this product on one of their lines.
    pub product: Option<ProductId>,
    /// Only orders of this customer.
    pub customer: Option<CustomerRef>,
    /// Only orders with this status.
    pub status: Option<OrderStatus>,
    /// The most entries.
    pub limit: i64,
}

/// The position of an order in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderPlace {
    /// When it was accepted, in microseconds since 1970. If `status` is the only filter, the list is sorted by
    /// this time; otherwise it is sorted by id.
    pub created_us: i64,
    pub id: OrderId,
}

impl OrderPlace {
    pub(crate) fn of(order: &Order) -> Self {
        Self { created_us: order.created_at.as_microsecond(), id: order.id }
    }
}

/// The columns of an [`OrderPlace`].
#[derive(sqlx::FromRow)]
pub(crate) struct OrderPlaceRow {
    pub id: i64,
    pub created_at: Time,
}

impl From<OrderPlaceRow> for OrderPlace {
    fn from(row: OrderPlaceRow) -> Self {
        Self { created_us: row.created_at.to_jiff().as_microsecond(), id: OrderId(row.id) }
    }
}

impl Store {
    /// One order.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn order(&self, id: OrderId) -> Result<Option<Order>, StoreError> {
        self.read(|reads| async move {
            let row = checked!(
                OrderRow,
                [
                    "SELECT" {order_columns}
                    r#", orders.earlier::text AS earlier, 1::bigint AS "found!"
                    FROM orders
                    WHERE id = $1"#
                ],
                id.0
            )
            .fetch_optional(reads)
            .await?;
            row.map(Order::try_from).transpose()
        })
        .await
    }

    /// Whether each of these orders exists. If the time differs from the given one, it is a different order
    /// that has got the same id. An archived order does not exist any more.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn orders_exist(
        &self,
        orders: &[(OrderId, Timestamp)],
    ) -> Result<Vec<bool>, StoreError> {
        let ids: Vec<_> = orders.iter().map(|(id, _)| id.0).collect();
        let times: Vec<_> = orders.iter().map(|(_, at)| Time::from(*at)).collect();
        // Looked up one by one: a join might read the whole table.
        let exist = sqlx::query_scalar!(
            r#"
            SELECT coalesce(
                (SELECT orders.created_at = told.created_at FROM orders WHERE orders.id = told.id),
                false
            ) AS "exists!"
            FROM unnest($1::bigint[], $2::timestamptz[])
                WITH ORDINALITY AS told (id, created_at, place)
            ORDER BY told.place
            "#,
            &ids,
            &times as &[Time],
        )
        .fetch_all(self.reads())
        .await?;
        Ok(exist)
    }

    /// A page of orders, newest first, without their history. It ends early if its rows would have more than
    /// [`PAGE_BYTES_MAX`](crate::PAGE_BYTES_MAX).
    ///
    /// # Errors
    /// The database is not available.
    pub async fn orders(&self, page: &OrderPage) -> Result<Page<Order, OrderPlace>, StoreError> {
        self.read(|reads| page.read(reads)).await
    }
}

impl OrderPage {
    async fn read(&self, reads: Reads<'_>) -> Result<Page<Order, OrderPlace>, StoreError> {
        let limit = self.limit.saturating_add(1);
        let mut query = QueryBuilder::new(sql!(
            "SELECT" {order_columns}
            r#", found AS "found!" FROM (SELECT *, coalesce(sum("# {order_bytes} ") OVER ("
        ));
        query.push(self.order()).push(sql!({bytes_before} "FROM (SELECT * FROM ("));
        let looked_at = if self.is_filtered() { LOOKED_AT_MAX } else { limit };
        self.push_looked_at(&mut query, looked_at);
        query.push(") AS orders");
        self.push_filters(&mut query);
        query.push(self.order()).push(" LIMIT ").push_bind(limit);
        query.push(") AS orders) AS orders WHERE bytes_before < ").push_bind(PAGE_BYTES_MAX);
        query.push(self.order());
        let rows: Vec<OrderRow> = query.build_query_as().fetch_all(reads.clone()).await?;

        let total = rows.first().map_or(0, |row| row.found);
        let mut found = Page::read(rows, total, self.limit, Order::try_from, OrderPlace::of)?;
        if found.next.is_none() && self.is_filtered() {
            found.next = self.last_looked_at(reads).await?;
        }
        Ok(found)
    }

    /// The last order that a page read, if there may be more after it.
    async fn last_looked_at(&self, reads: Reads<'_>) -> Result<Option<OrderPlace>, StoreError> {
        let mut query = QueryBuilder::new("SELECT id, created_at FROM (");
        self.push_looked_at(&mut query, LOOKED_AT_MAX);
        query.push(") AS orders").push(self.order());
        query.push(" OFFSET ").push_bind(LOOKED_AT_MAX - 1).push(" LIMIT 1");
        let last: Option<OrderPlaceRow> = query.build_query_as().fetch_optional(reads).await?;
        Ok(last.map(OrderPlace::from))
    }

    /// Whether a page needs filters in addition to the one of its index.
    fn is_filtered(&self) -> bool {
        let filters = [self.customer.is_some(), self.product.is_some(), self.status.is_some()];
        filters.into_iter().filter(|given| *given).count() > 1
            || self.status.is_some_and(is_unfinished)
    }

    fn order(&self) -> &'static str {
        match (&self.customer, self.product, self.status) {
            // All rows have the same customer or product: see `push_looked_at`.
            (Some(_), ..) => " ORDER BY customer_ref, id DESC",
            (None, Some(_), _) => " ORDER BY asked, place DESC",
            (None, None, Some(_)) => " ORDER BY created_at DESC, id DESC",
            (None, None, None) => " ORDER BY id DESC",
        }
    }

    /// The next `limit` orders along one index, with all their columns.
    ///
    /// Each `LIMIT` is directly on an index that has the required order, so whatever the planner estimates, the
    /// best plan is to stop early. And it must be the only index with that order. With `= $1` for a product,
    /// the planner could also use the primary key and read all orders backwards until it finds the product; for
    /// a product without recent orders, that would read the whole table. With `= ANY (ARRAY[$1])`, the planner
    /// does not know that there is only one product, so it does not know that the primary key has the required
    /// order.
    fn push_looked_at(&self, query: &mut QueryBuilder<Postgres>, limit: i64) {
        let before = self.after.map_or(i64::MAX, |place| place.id.0);
        if let Some(customer) = &self.customer {
            query.push("SELECT * FROM orders WHERE customer_ref = ANY (ARRAY[");
            query.push_bind(customer.as_str().to_owned());
            query.push("]) AND id < ").push_bind(before);
        } else if let Some(product) = self.product {
            query.push(
                r"SELECT * FROM ((
                    SELECT product_id AS asked, id AS place, * FROM orders
                    WHERE product_id = ANY (ARRAY[",
            );
            query.push_bind(product.0).push("]) AND id < ").push_bind(before);
            query.push(" ORDER BY product_id, id DESC LIMIT ").push_bind(limit);
            // Because of its OFFSET, this is never flattened: each order is looked up by its id.
            query.push(
                r") UNION ALL (
                    SELECT line.product_id AS asked, line.order_id AS place, found.*
                    FROM order_lines AS line
                    CROSS JOIN LATERAL (
                        SELECT * FROM orders WHERE id = line.order_id OFFSET 0
                    ) AS found
                    WHERE line.product_id = ANY (ARRAY[",
            );
            query.push_bind(product.0).push("]) AND found.product_id <> line.product_id");
            query.push(" AND line.order_id < ").push_bind(before);
            query.push(" ORDER BY line.product_id, line.order_id DESC LIMIT ").push_bind(limit);
            query.push(")) AS either");
        } else if let Some(status) = self.status {
            let apart = match status {
                // The index by age does not contain the status, because each claim changes it: see
                // `push_filters`.
                OrderStatus::Pending | OrderStatus::Processing => Some("unfinished_orders"),
                OrderStatus::Completed => Some("completed_orders"),
                OrderStatus::Failed | OrderStatus::Cancelled => None,
            };
            if let Some(table) = apart {
                query.push("SELECT * FROM ((SELECT * FROM ").push(table).push(" WHERE true");
                self.push_older(query);
                query.push(self.order()).push(" LIMIT ").push_bind(limit);
                query.push(") UNION ALL (");
            }
            query.push("SELECT * FROM ONLY orders WHERE status = ").push_bind(status.as_str());
            self.push_older(query);
            if apart.is_some() {
                query.push(self.order()).push(" LIMIT ").push_bind(limit);
                query.push(")) AS either");
            }
        } else {
            query.push("SELECT * FROM orders WHERE id < ").push_bind(before);
        }
        query.push(self.order()).push(" LIMIT ").push_bind(limit);
    }

    /// Only orders after the previous page, in the order of their creation.
    fn push_older(&self, query: &mut QueryBuilder<Postgres>) {
        if let Some(place) = self.after {
            query.push(" AND (created_at, id) < ('epoch'::timestamptz + ");
            query.push_bind(place.created_us).push(" * interval '1 us', ");
            query.push_bind(place.id.0).push(")");
        }
    }

    /// The filters that the index may not have applied. Applying the status twice costs nothing.
    fn push_filters(&self, query: &mut QueryBuilder<Postgres>) {
        query.push(" WHERE true");
        if let Some(status) = self.status {
            query.push(" AND status = ").push_bind(status.as_str());
        }
        if let (Some(product), Some(_)) = (self.product, &self.customer) {
            push_with_product(query, product);
        }
    }
}

/// Whether orders with this status may be in the table of unfinished orders, which has no index by status.
fn is_unfinished(status: OrderStatus) -> bool {
    matches!(status, OrderStatus::Pending | OrderStatus::Processing)
}

/// Only rows of `orders` with a line of this product.
pub(crate) fn push_with_product(query: &mut QueryBuilder<Postgres>, product: ProductId) {
    query.push(" AND (product_id = ").push_bind(product.0);
    query.push(
        r" OR EXISTS (
            SELECT FROM order_lines AS line
            WHERE line.order_id = orders.id AND line.product_id = ",
    );
    query.push_bind(product.0).push("))");
}
