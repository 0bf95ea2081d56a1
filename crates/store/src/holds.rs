//! Reading holds. Only batches change them: see `admission`.

use std::time::Duration;

use holdfast_domain::{CustomerRef, Hold, HoldId, HoldStatus, Money, OrderId, ProductId, Quantity};
use sqlx::{Postgres, QueryBuilder};

use crate::{
    error::StoreError,
    page::{LOOKED_AT_MAX, Page},
    reads::Reads,
    rows::{corrupt, word},
    sql::{checked, sql},
    store::Store,
    time::Time,
};

/// The columns of a [`HoldRow`]. A hold is read as expired once its time is over, even if this has not been written
/// yet.
macro_rules! hold_columns {
    ($($to:tt)+) => { $crate::sql::part!([r#"
        id, product_id, quantity, unit_price_minor, customer_ref, order_id,
        CASE WHEN status = 'active' AND expires_at <= now() THEN 'expired' ELSE status END
            AS "status!",
        expires_at AS "expires_at: Time",
        created_at AS "created_at: Time",
        CASE WHEN status = 'active' AND expires_at <= now() THEN expires_at ELSE ended_at END
            AS "ended_at: Time"
    "#] $($to)+) };
}
pub(crate) use hold_columns;

/// A row of `holds`.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct HoldRow {
    pub id: i64,
    pub product_id: i64,
    pub quantity: i32,
    pub unit_price_minor: i64,
    pub customer_ref: Option<String>,
    pub order_id: Option<i64>,
    #[sqlx(rename = "status!")]
    pub status: String,
    #[sqlx(rename = "expires_at: Time")]
    pub expires_at: Time,
    #[sqlx(rename = "created_at: Time")]
    pub created_at: Time,
    #[sqlx(rename = "ended_at: Time")]
    pub ended_at: Option<Time>,
}

impl TryFrom<HoldRow> for Hold {
    type Error = StoreError;

    fn try_from(row: HoldRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: HoldId(row.id),
            product_id: ProductId(row.product_id),
            quantity: Quantity::new(row.quantity.into(), i32::MAX).map_err(corrupt("quantity"))?,
            unit_price: Money::from_minor(row.unit_price_minor).map_err(corrupt("unit price"))?,
            status: word("hold status", &row.status)?,
            customer_ref: row.customer_ref.map(CustomerRef::kept),
            expires_at: row.expires_at.to_jiff(),
            created_at: row.created_at.to_jiff(),
            ended_at: row.ended_at.map(Time::to_jiff),
            order_id: row.order_id.map(OrderId),
        })
    }
}

/// A page of the list of holds, newest first.
///
/// As with orders, a page is read along one index, by customer, product or status, in this order of preference.
#[derive(Clone, Debug, Default)]
pub struct HoldPage {
    /// Where the previous page ended.
    pub after: Option<HoldId>,
    /// Only holds of this product.
    pub product: Option<ProductId>,
    /// Only holds of this customer.
    pub customer: Option<CustomerRef>,
    /// Only holds with this status.
    pub status: Option<HoldStatus>,
    /// The most entries.
    pub limit: i64,
}

/// When units of a product may come back from holds without a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextExpiry {
    /// The version of the product for which this is valid: a later hold creates another version.
    pub version: i64,
    /// The time from now; zero if a hold has already expired. `None` if no units are held.
    pub after: Option<Duration>,
}

impl Store {
    /// When the next active hold of a product expires; `None` for an unknown product. Safe to cancel.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn next_expiry(&self, id: ProductId) -> Result<Option<NextExpiry>, StoreError> {
        let row = sqlx::query!(
            r#"
            SELECT version, (
                SELECT floor(extract(epoch FROM min(expires_at) - now()) * 1000)::bigint
                FROM holds
                WHERE product_id = products.id AND status = 'active'
            ) AS millis
            FROM products
            WHERE id = $1
            "#,
            id.0,
        )
        .fetch_optional(self.reads())
        .await?;
        let after = |millis: i64| Duration::from_millis(millis.try_into().unwrap_or(0));
        Ok(row.map(|row| NextExpiry { version: row.version, after: row.millis.map(after) }))
    }

    /// One hold.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn hold(&self, id: HoldId) -> Result<Option<Hold>, StoreError> {
        self.read(|reads| async move {
            let row = checked!(HoldRow, ["SELECT" {hold_columns} "FROM holds WHERE id = $1"], id.0)
                .fetch_optional(reads)
                .await?;
            row.map(Hold::try_from).transpose()
        })
        .await
    }

    /// A page of holds, newest first.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn holds(&self, page: &HoldPage) -> Result<Page<Hold, HoldId>, StoreError> {
        self.read(|reads| page.read(reads)).await
    }
}

impl HoldPage {
    async fn read(&self, reads: Reads<'_>) -> Result<Page<Hold, HoldId>, StoreError> {
        let limit = self.limit.saturating_add(1);
        let mut query = QueryBuilder::new(sql!("SELECT" {hold_columns} "FROM ("));
        let looked_at = if self.is_filtered() { LOOKED_AT_MAX } else { limit };
        self.push_looked_at(&mut query, looked_at);
        query.push(") AS looked_at");
        self.push_filters(&mut query);
        query.push(self.order()).push(" LIMIT ").push_bind(limit);
        let rows: Vec<HoldRow> = query.build_query_as().fetch_all(reads.clone()).await?;
        let holds = rows.into_iter().map(Hold::try_from).collect::<Result<Vec<_>, _>>()?;

        let mut found = Page::cut(holds, self.limit, |hold| hold.id);
        if found.next.is_none() && self.is_filtered() {
            let mut query = QueryBuilder::new("SELECT id FROM (");
            self.push_looked_at(&mut query, LOOKED_AT_MAX);
            query.push(") AS looked_at").push(self.order());
            query.push(" OFFSET ").push_bind(LOOKED_AT_MAX - 1);
            let last = query.push(" LIMIT 1").build_query_scalar().fetch_optional(reads).await?;
            found.next = last.map(HoldId);
        }
        Ok(found)
    }

    /// Whether the page needs filters in addition to its index.
    fn is_filtered(&self) -> bool {
        let filters = [self.customer.is_some(), self.product.is_some(), self.status.is_some()];
        filters.into_iter().filter(|given| *given).count() > 1
            || matches!(self.status, Some(HoldStatus::Active | HoldStatus::Expired))
    }

    fn order(&self) -> &'static str {
        match (&self.customer, self.product) {
            // All rows have the same customer or product.
            (Some(_), _) => " ORDER BY customer_ref, id DESC",
            (None, Some(_)) => " ORDER BY product_id, id DESC",
            (None, None) => " ORDER BY id DESC",
        }
    }

    /// The next `limit` holds along one index, the only one with the requested order, as in `orders`.
    fn push_looked_at(&self, query: &mut QueryBuilder<Postgres>, limit: i64) {
        let before = self.after.map_or(i64::MAX, |id| id.0);
        if let Some(customer) = &self.customer {
            query.push("SELECT * FROM holds WHERE customer_ref = ANY (ARRAY[");
            query.push_bind(customer.as_str().to_owned()).push("]) AND id < ").push_bind(before);
            query.push(self.order());
        } else if let Some(product) = self.product {
            query.push("SELECT * FROM holds WHERE product_id = ANY (ARRAY[").push_bind(product.0);
            query.push("]) AND id < ").push_bind(before).push(self.order());
        } else if let Some(status) = self.status {
            let push_part = |query: &mut QueryBuilder<Postgres>, status: HoldStatus| {
                // The planner must not know the status: the indexes of active holds have another order, and look
                // cheap without statistics.
                query.push("SELECT * FROM holds WHERE status = ANY (ARRAY[(SELECT ");
                query.push_bind(status.as_str()).push(")]) AND id < ").push_bind(before);
                query.push(" ORDER BY status, id DESC LIMIT ").push_bind(limit);
            };
            if status == HoldStatus::Expired {
                // The active holds include expired holds that are not marked yet.
                query.push("SELECT * FROM ((");
                push_part(query, HoldStatus::Active);
                query.push(") UNION ALL (");
                push_part(query, status);
                query.push(")) AS either ORDER BY id DESC");
            } else {
                push_part(query, status);
                return;
            }
        } else {
            query.push("SELECT * FROM holds WHERE id < ").push_bind(before).push(self.order());
        }
        query.push(" LIMIT ").push_bind(limit);
    }

    /// All filters except the one of the index. The status is always filtered, because of expired holds that are
    /// not marked yet.
    fn push_filters(&self, query: &mut QueryBuilder<Postgres>) {
        query.push(" WHERE true");
        if let Some(status) = self.status {
            query.push(
                r" AND CASE WHEN status = 'active' AND expires_at <= now() THEN 'expired'
                    ELSE status END = ",
            );
            query.push_bind(status.as_str());
        }
        if let (Some(product), Some(_)) = (self.product, &self.customer) {
            query.push(" AND product_id = ").push_bind(product.0);
        }
    }
}
