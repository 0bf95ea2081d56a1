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
    /// How often it went back to pending since then, whether the try counted or not. Stops
    /// counting at 50.
    pub returns: u32,
    /// When it was accepted or, if it was, last replayed.
    pub since: jiff::Timestamp,
    /// When it was accepted.
    pub created_at: jiff::Timestamp,
    /// What was ordered.
    pub lines: Vec<OrderLine>,
    /// The shop's own name for the customer.
    pub customer_ref: Option<CustomerRef>,
    /// What the shop keeps with the order.
    pub metadata: Option<Metadata>,
}

/// What is read of a claimed order.
#[derive(Debug)]
pub struct ReadOrder {
    /// Which order.
    pub order_id: OrderId,
    /// About how many bytes it has.
    pub bytes: usize,
    /// The order, or why it cannot be read, which concerns no other.
    pub order: Result<ClaimedOrder, StoreError>,
}

/// The most bytes of an order that is read for fulfilment, in the measure of [`Store::claimed`]. What the API
/// takes, and what the version before has taken, has less than half of it.
pub const CLAIMED_BYTES_MAX: u32 = 1024 * 1024;

/// A row of [`Store::claimed`]. An order of too many bytes has neither metadata nor history there, and one of no
/// finite time has no time.
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
        // Only a replay puts an order back that somebody asked for by name.
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
    /// Reads claimed orders, in the order of `ids`: the first in any case, and those behind it as long
    /// as all before them have less than `bytes`. Those that are missing are to be asked for again,
    /// except for ones before another that was read: they are gone. An order of more
    /// than [`CLAIMED_BYTES_MAX`] is not read.
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
