//! What customers already have of the products of a batch, for the limits of flash sales.

use std::collections::BTreeSet;

use holdfast_domain::{CustomerLimit, CustomerRef, CustomerTotals, ProductId};

use super::batch::Batch;
use crate::{error::StoreError, time::Time};

impl Batch {
    /// Tells the allocator what these customers have of the locked products with a limit: what they have
    /// ordered since the sale began and not cancelled, and what is held for them, whenever that was. No other transaction
    /// can change that while the products are locked.
    ///
    /// # Errors
    /// The database refuses or is not available; the transaction is over then.
    pub async fn count_customer_totals(
        &mut self,
        limits: &[(ProductId, CustomerLimit)],
        customers: &BTreeSet<CustomerRef>,
    ) -> Result<(), StoreError> {
        let ids: Vec<_> = limits.iter().map(|(id, _)| id.0).collect();
        let after_orders: Vec<_> = limits.iter().map(|(_, limit)| limit.after_order).collect();
        let since: Vec<_> = limits.iter().map(|(_, limit)| Time::from(limit.since)).collect();
        let customers: Vec<_> = customers.iter().map(CustomerRef::as_str).collect();
        let rows = sqlx::query!(
            r#"
            SELECT limited.id AS "id!", customer.ref AS "customer!",
                coalesce((
                    SELECT sum(quantity)
                    FROM orders
                    WHERE customer_ref = customer.ref
                        AND orders.id > limited.after_order
                        AND product_id = limited.id
                        AND created_at >= limited.since
                        AND status <> 'cancelled'
                ), 0)::bigint
                + coalesce((
                    SELECT sum(line.quantity)
                    FROM orders
                    JOIN order_lines AS line ON order_id = orders.id
                    WHERE customer_ref = customer.ref
                        AND orders.id > limited.after_order
                        AND line.product_id = limited.id
                        AND line_count > 1
                        AND created_at >= limited.since
                        AND status <> 'cancelled'
                ), 0)::bigint AS "ordered!",
                coalesce((
                    SELECT sum(quantity)
                    FROM holds
                    WHERE customer_ref = customer.ref
                        AND product_id = limited.id
                        AND status = 'active'
                        AND expires_at > now()
                ), 0)::bigint AS "held!"
            FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[])
                    AS limited (id, after_order, since),
                unnest($4::text[]) AS customer (ref)
            "#,
            &ids,
            &after_orders,
            &since as &[Time],
            &customers as &[&str],
        )
        .fetch_all(&mut self.transaction)
        .await?;
        for row in rows {
            let units = CustomerTotals { ordered: row.ordered, held: row.held };
            let customer = CustomerRef::kept(row.customer);
            self.allocator.add_customer_totals(ProductId(row.id), customer, units);
        }
        Ok(())
    }
}
