//! What customers already have of the products of a batch, for the limits of flash sales.

use std::collections::BTreeSet;

use holdfast_domain::{CustomerLimit, CustomerRef, CustomerUnits, ProductId};
use sqlx::Row as _;

use super::batch::Batch;
use crate::error::StoreError;

impl Batch {
    /// Tells the allocator what these customers have of the locked products with a limit: what they have
    /// ordered since the sale began and not cancelled, and what is held for them, whenever that was. No other transaction
    /// can change that while the products are locked.
    ///
    /// # Errors
    /// The database refuses or is not available; the transaction is over then.
    pub async fn count_customer_units(
        &mut self,
        limits: &[(ProductId, CustomerLimit)],
        customers: &BTreeSet<CustomerRef>,
    ) -> Result<(), StoreError> {
        let query = sqlx::query(
            "SELECT limited.id, customer.ref, coalesce(( \
                 SELECT sum(quantity) FROM orders WHERE customer_ref = customer.ref \
                     AND orders.id > limited.after_order AND product_id = limited.id \
                     AND created_at >= limited.since AND status <> 'cancelled'), 0)::bigint \
               + coalesce(( \
                 SELECT sum(line.quantity) FROM orders JOIN order_lines AS line ON order_id = orders.id \
                 WHERE customer_ref = customer.ref AND orders.id > limited.after_order \
                     AND line.product_id = limited.id AND line_count > 1 \
                     AND created_at >= limited.since AND status <> 'cancelled'), 0)::bigint AS ordered, \
               coalesce(( \
                 SELECT sum(quantity) FROM holds WHERE customer_ref = customer.ref \
                     AND product_id = limited.id AND status = 'active' AND expires_at > now()), 0)::bigint AS held \
             FROM (SELECT id, after_order, 'epoch'::timestamptz + since_us * interval '1 us' AS since \
                   FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) \
                       AS given (id, after_order, since_us)) AS limited, \
                 unnest($4::text[]) AS customer (ref)",
        )
        .bind(limits.iter().map(|(id, _)| id.0).collect::<Vec<_>>())
        .bind(limits.iter().map(|(_, limit)| limit.after_order).collect::<Vec<_>>())
        .bind(limits.iter().map(|(_, limit)| limit.since.as_microsecond()).collect::<Vec<_>>())
        .bind(customers.iter().map(CustomerRef::as_str).collect::<Vec<_>>());
        let rows = query.fetch_all(&mut self.transaction).await?;
        for row in rows {
            let customer = CustomerRef::kept(row.try_get("ref")?);
            let units =
                CustomerUnits { ordered: row.try_get("ordered")?, held: row.try_get("held")? };
            self.allocator.add_customer_units(ProductId(row.try_get("id")?), customer, units);
        }
        Ok(())
    }
}
