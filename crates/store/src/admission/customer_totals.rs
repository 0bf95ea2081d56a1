//! What customers have already bought of the products of a batch, for the limits of flash sales.

use std::collections::BTreeSet;

use holdfast_domain::{CustomerLimit, CustomerRef, CustomerTotals, ProductId};

use super::batch::Batch;
use crate::{error::StoreError, time::Time};

/// The most orders, and the most holds of a product, that are read for a customer. A customer with more gets no more
/// units.
const COUNTED_MAX: i64 = 10_000;

/// The quantity that counts for such a customer. It exceeds any limit.
const TOO_MANY: i64 = 1_000_000_000;

impl Batch {
    /// Sets in the allocator what these customers have of the locked products with a limit: what they have ordered
    /// since the start of the sale and not cancelled, and what is held for them, regardless of the time. No other
    /// transaction can change that while the products are locked.
    ///
    /// Only the orders and holds of these customers are read, at most 10,000 of each, whatever the planner's statistics
    /// say: each condition for which another index could be used is written so that it cannot be.
    ///
    /// # Errors
    /// The database refuses or is not available. The transaction can then no longer be used.
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
                (
                    SELECT CASE WHEN count(*) > $5::bigint THEN $6::bigint ELSE coalesce(sum(units), 0) END
                    FROM (
                        SELECT CASE WHEN status = 'cancelled' THEN 0 ELSE
                            CASE WHEN product_id = limited.id THEN quantity ELSE 0 END
                            + CASE WHEN line_count = 1 THEN 0 ELSE coalesce((
                                SELECT sum(line.quantity)
                                FROM order_lines AS line
                                WHERE order_id = orders.id
                                    AND line.product_id + 0 = limited.id
                            ), 0) END
                        END AS units
                        FROM orders
                        WHERE customer_ref = customer.ref
                            AND id > limited.after_order
                            AND (created_at >= limited.since) IS TRUE
                        LIMIT $5::bigint + 1
                    ) AS counted
                )::bigint AS "ordered!",
                (
                    SELECT CASE WHEN count(*) > $5::bigint THEN $6::bigint ELSE coalesce(sum(units), 0) END
                    FROM (
                        SELECT CASE WHEN status = 'active' AND expires_at > now()
                            THEN quantity ELSE 0 END AS units
                        FROM holds
                        WHERE customer_ref || ' ' || product_id::text
                                = customer.ref || ' ' || limited.id::text
                            AND ended_at IS NULL
                        LIMIT $5::bigint + 1
                    ) AS counted
                )::bigint AS "held!"
            FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[])
                    AS limited (id, after_order, since),
                unnest($4::text[]) AS customer (ref)
            "#,
            &ids,
            &after_orders,
            &since as &[Time],
            &customers as &[&str],
            COUNTED_MAX,
            TOO_MANY,
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
