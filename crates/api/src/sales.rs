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
    /// What it is called.
    #[schema(example = "black-friday")]
    pub name: String,
    /// The ids of the products that are sold.
    #[schema(example = json!([3]))]
    pub products: Vec<i64>,
    /// When orders are taken from.
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00.123456Z")]
    pub starts_at: ShownTime,
    /// When no order is taken any more.
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00.123456Z")]
    pub ends_at: ShownTime,
    /// The most units of one product for one customer; null for no limit.
    #[schema(example = 2, required = true)]
    pub per_customer: Option<u32>,
    /// Whether it stays closed at its start.
    pub held_back: bool,
    /// Where it stands, by the database's clock: `upcoming`, `open` or `over`; `held_back` if it could be open.
    #[schema(value_type = String, example = "upcoming")]
    pub state: &'static str,
}

impl SaleBody {
    /// As it stands at a time.
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

/// A flash sale, and how it goes.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = SaleWithReport)]
pub struct SaleWithReportBody {
    /// The sale.
    #[serde(flatten)]
    #[schema(inline)]
    pub sale: SaleBody,
    /// How it goes, or went.
    pub report: ReportBody,
}

/// How a sale goes, or went. If a product is in other sales at the same time, those count as well.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = SaleReport)]
pub struct ReportBody {
    /// Units sold since the sale was written down, less those that came back.
    pub sold: i64,
    /// Units left.
    pub left: i64,
    /// Requests refused, by reason, as in the metric `holdfast_orders_refused_total`.
    #[schema(example = json!({"not_enough": 1200, "over_limit": 7}))]
    pub refused: BTreeMap<String, i64>,
    /// The most orders and holds accepted within one second.
    pub peak_orders_per_second: i64,
    /// 99 of 100 batches waited less than that for a product's lock, in milliseconds; null before the first.
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
