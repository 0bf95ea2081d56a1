//! An entry of a product's stock ledger as the API shows it.

use holdfast_domain::{LedgerEntry, LedgerReason};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{request::words, shown_time::ShownTime};

/// A change of a product's stock. Each `stock` is the `stock` of the previous entry plus `delta`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = StockChange)]
pub struct LedgerBody {
    /// The id of the product.
    #[schema(example = 3)]
    pub product_id: i64,
    /// The version of the product after the change.
    #[schema(example = 42)]
    pub version: i64,
    /// The kind of change.
    #[schema(example = "adjustment")]
    pub kind: LedgerKind,
    /// The number of units added; negative if they were removed.
    #[schema(example = -2)]
    pub delta: i64,
    /// The number of units for sale after the change.
    #[schema(example = 23)]
    pub stock: i64,
    /// The number of units in holds after the change; they are not part of `stock`.
    #[schema(example = 0)]
    pub held: i64,
    /// For `admission`: units sold from `stock` or from holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sold: Option<i64>,
    /// For `admission`: units returned by cancelled orders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returned: Option<i64>,
    /// For `admission`: units moved into holds, minus units returned from holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub put_on_hold: Option<i64>,
    /// For `adjustment`: the reason that the caller gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "broken in transit")]
    pub reason: Option<String>,
    /// The time of the change.
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00.123456Z")]
    pub created_at: ShownTime,
}

words! {
    /// The kind of change: `opening` (the initial stock), `set` (to a new stock), `adjustment` (by a number of units),
    /// `admission` (a batch of orders, cancellations and holds), or `unknown` (by another program).
    LedgerKind of LedgerReason
}

impl From<LedgerEntry> for LedgerBody {
    fn from(entry: LedgerEntry) -> Self {
        let batch = |units| (entry.reason == LedgerReason::Admission).then_some(units);
        Self {
            product_id: entry.product_id.0,
            version: entry.version,
            kind: LedgerKind(entry.reason),
            delta: entry.delta,
            stock: entry.stock_after.units(),
            held: entry.held_after,
            sold: batch(entry.sold),
            returned: batch(entry.returned),
            put_on_hold: batch(entry.held),
            reason: entry.note,
            created_at: entry.created_at.into(),
        }
    }
}
