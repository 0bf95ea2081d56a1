//! A flash sale as the API shows it.

pub mod warm_up;

use std::collections::BTreeMap;

use holdfast_domain::Sale;
use holdfast_store::SaleReport;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::shown_time::ShownTime;

/// A flash sale.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Sale)]
pub struct SaleBody {
    /// The name.
    #[schema(example = "black-friday")]
    pub name: String,
    /// The ids of the products.
    #[schema(example = json!([3]))]
    pub products: Vec<i64>,
    /// The time from which orders are accepted.
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00.123456Z")]
    pub starts_at: ShownTime,
    /// The time from which orders are no longer accepted.
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00.123456Z")]
    pub ends_at: ShownTime,
    /// The most units of one product for one customer; null for no limit.
    #[schema(example = 2, required = true)]
    pub per_customer: Option<u32>,
    /// Whether the sale stays closed after its start.
    pub held_back: bool,
    /// The state by the database's clock: `upcoming`, `open` or `over`, or `held_back` instead of `open`.
    #[schema(value_type = String, example = "upcoming")]
    pub state: &'static str,
}

impl SaleBody {
    /// The sale with its state at a time.
    pub fn at(sale: &Sale, now: Timestamp) -> Self {
        let state = if now >= sale.ends_at {
            "over"
        } else if now < sale.starts_at {
            "upcoming"
        } else if sale.held_back {
            "held_back"
        } else {
            "open"
        };
        Self {
            name: sale.name.as_str().to_owned(),
            products: sale.products.iter().map(|id| id.0).collect(),
            starts_at: sale.starts_at.into(),
            ends_at: sale.ends_at.into(),
            per_customer: sale.per_customer,
            held_back: sale.held_back,
            state,
        }
    }
}

/// A flash sale with its report.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = SaleWithReport)]
pub struct SaleWithReportBody {
    /// The sale.
    #[serde(flatten)]
    #[schema(inline)]
    pub sale: SaleBody,
    /// The report.
    pub report: ReportBody,
}

/// The report of a sale. If a product is in other sales at the same time, their orders are included.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = SaleReport)]
pub struct ReportBody {
    /// Units sold since the sale was recorded, minus units that were returned to stock.
    pub sold: i64,
    /// Units that are left.
    pub left: i64,
    /// Refused requests by reason, as in the metric `holdfast_orders_refused_total`.
    #[schema(example = json!({"not_enough": 1200, "over_limit": 7}))]
    pub refused: BTreeMap<String, i64>,
    /// The most orders and holds that were accepted in one second.
    pub peak_orders_per_second: i64,
    /// The 99th percentile of the time that batches waited for a product's lock, in milliseconds; null before the first.
    #[schema(required = true)]
    pub lock_wait_p99_ms: Option<f64>,
}

impl From<SaleReport> for ReportBody {
    fn from(report: SaleReport) -> Self {
        Self {
            sold: report.sold,
            left: report.left,
            refused: report.refused,
            peak_orders_per_second: report.peak_orders_per_second,
            lock_wait_p99_ms: report.lock_wait_p99.map(|wait| wait.as_secs_f64() * 1000.0),
        }
    }
}
