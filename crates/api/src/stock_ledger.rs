//! An entry of a product's stock ledger as the API shows it.

use holdfast_domain::{LedgerEntry, LedgerReason};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{request::words, shown_time::ShownTime};

/// A change of a product's stock. Each `stock` is the one of the entry before, plus `delta`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = StockChange)]
pub struct LedgerBody {
    /// Of which product.
    #[schema(example = 3)]
    pub product_id: i64,
    /// The version that the change gave the product.
    #[schema(example = 42)]
    pub version: i64,
    /// What kind of change it was.
    #[schema(example = "adjustment")]
    pub kind: LedgerKind,
    /// Units added; negative if they were taken.
    #[schema(example = -2)]
    pub delta: i64,
    /// Units left to be sold afterwards.
    #[schema(example = 23)]
    pub stock: i64,
    /// Units in holds afterwards; they are not in `stock`.
    #[schema(example = 0)]
    pub held: i64,
    /// With `admission`: units sold from `stock` or from holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sold: Option<i64>,
    /// With `admission`: units that came back from cancelled orders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returned: Option<i64>,
    /// With `admission`: units taken into holds, less those that came back from them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub put_on_hold: Option<i64>,
    /// With `adjustment`: what the caller said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "broken in transit")]
    pub reason: Option<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00.123456Z")]
    pub created_at: ShownTime,
}

words! {
    /// What kind of change it was: `opening` (the stock that the product began with), `set` (to a new stock), `adjustment` (by a
    /// number of units), `admission` (a batch of orders, cancellations and holds), or `unknown` (by another program).
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
