//! Reading claimed orders.

use holdfast_domain::{CustomerRef, Metadata, OrderId, OrderLine, OrderStatus, Transition};

use crate::{
    error::StoreError,
    order_rows::{history, more_lines, order_bytes_with_history, order_line, order_lines},
    sql::checked,
    store::Store,
    time::Time,
};

/// An order that was claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedOrder {
    /// The number of times that the order has gone back to pending since [`Self::since`], whether the attempt
    /// counted or not; at most 50.
    pub returns: u32,
    /// When it was accepted, or last replayed.
    pub since: jiff::Timestamp,
    /// When it was accepted.
    pub created_at: jiff::Timestamp,
    /// What was ordered.
    pub lines: Vec<OrderLine>,
    /// The shop's reference for the customer.
    pub customer_ref: Option<CustomerRef>,
    /// Data of the shop that is stored with the order.
    pub metadata: Option<Metadata>,
}

/// A claimed order as it was read.
#[derive(Debug)]
pub struct ReadOrder {
    pub order_id: OrderId,
    /// Its approximate size in bytes.
    pub bytes: usize,
    /// The order, or why it cannot be read. Other orders are not affected.
    pub order: Result<ClaimedOrder, StoreError>,
}

/// The largest order in bytes that is read for fulfilment, as measured by [`Store::claimed`]. Orders that this
/// or the previous version of the API has accepted are less than half as large.
pub const CLAIMED_BYTES_MAX: u32 = 1024 * 1024;

/// A row of [`Store::claimed`]. An order that is too large has neither metadata nor history here, and an order
/// without a finite time has no time.
struct ClaimedRow {
    id: i64,
    bytes: i64,
    product_id: i64,
    quantity: i32,
    unit_price_minor: i64,
    customer_ref: Option<String>,
    metadata: Option<String>,
    earlier: Option<String>,
    created_at: Option<Time>,
    more_lines: Option<Vec<i64>>,
}

impl From<ClaimedRow> for ReadOrder {
    fn from(row: ClaimedRow) -> Self {
        Self {
            order_id: OrderId(row.id),
            bytes: usize::try_from(row.bytes).unwrap_or(usize::MAX),
            order: row.try_into(),
        }
    }
}

impl TryFrom<ClaimedRow> for ClaimedOrder {
    type Error = StoreError;

    fn try_from(row: ClaimedRow) -> Result<Self, StoreError> {
        let corrupt = |reason| StoreError::Corrupt { what: "order", reason };
        let bytes = row.bytes;
        if bytes > i64::from(CLAIMED_BYTES_MAX) {
            return Err(corrupt(format!(
                "it has {bytes} bytes, and at most {CLAIMED_BYTES_MAX} can be sent"
            )));
        }
        let created_at =
            row.created_at.ok_or_else(|| corrupt("it has no time of creation".to_owned()))?;
        let created_at = created_at.to_jiff();
        let (earlier, _) = history(row.earlier.as_deref());
        // Of the steps back to pending, only replays have the name of an operator.
        let replay = earlier.iter().rposition(is_replay);
        let of_now = &earlier[replay.map_or(0, |at| at + 1)..];
        let returns = of_now.iter().filter(|step| step.status == OrderStatus::Pending).count();
        let first = order_line(row.product_id, row.quantity.into(), row.unit_price_minor)?;
        Ok(Self {
            returns: u32::try_from(returns).unwrap_or(u32::MAX),
            since: replay.map_or(created_at, |at| earlier[at].at),
            created_at,
            lines: order_lines(first, row.more_lines)?,
            customer_ref: row.customer_ref.map(CustomerRef::kept),
            metadata: row.metadata.map(Metadata::kept),
        })
    }
}

fn is_replay(step: &Transition) -> bool {
    step.status == OrderStatus::Pending && step.by.is_some()
}

impl Store {
    /// Reads claimed orders, in the order of `ids`: always the first one, and the following ones as long as all
    /// orders before them together have less than `bytes`. Missing orders must be requested again, except those
    /// before another order that was read: they no longer exist. An order of more than [`CLAIMED_BYTES_MAX`] is
    /// not read.
    ///
    /// # Errors
    /// The database is not available, or cannot read one of them.
    pub async fn claimed(&self, ids: &[OrderId], bytes: u32) -> Result<Vec<ReadOrder>, StoreError> {
        let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
        let rows = checked!(
            ClaimedRow,
            [
                r#"SELECT orders.id, bytes AS "bytes!",
                    product_id, quantity, unit_price_minor, customer_ref,
                    CASE WHEN bytes <= $3 THEN coalesce(orders.metadata_text, orders.metadata::text)
                        END AS metadata,
                    CASE WHEN bytes <= $3 THEN earlier::text END AS earlier,
                    CASE WHEN isfinite(created_at) THEN created_at END AS "created_at: Time","#
                    {more_lines} r"
                FROM (
                    SELECT *, coalesce(sum(bytes) OVER (
                        ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                    ), 0) AS bytes_before
                    FROM (
                        SELECT asked.place, orders.*," {order_bytes_with_history} r"AS bytes
                        FROM unnest((SELECT $1::bigint[])) WITH ORDINALITY AS asked (id, place)
                        CROSS JOIN LATERAL (
                            SELECT * FROM orders WHERE id = asked.id OFFSET 0
                        ) AS orders
                    ) AS measured
                ) AS orders
                WHERE bytes_before < greatest($2::bigint, 1)
                ORDER BY place"
            ],
            &ids,
            i64::from(bytes),
            i64::from(CLAIMED_BYTES_MAX),
        )
        .fetch_all(self.work())
        .await?;
        Ok(rows.into_iter().map(ReadOrder::from).collect())
    }
}
