//! A flash sale as the API shows it, and as somebody wants it.

pub mod warm_up;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use holdfast_domain::{Invalid, MAX_PER_CUSTOMER, MAX_SALE_PRODUCTS, ProductId, Sale, SaleName};
use holdfast_store::SaleReport;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    body::{Fields, JsonText, value},
    problem::{FieldError, Problem},
};

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
    #[schema(value_type = String, format = DateTime)]
    pub starts_at: Timestamp,
    /// When no order is taken any more.
    #[schema(value_type = String, format = DateTime)]
    pub ends_at: Timestamp,
    /// The most units of one product for one customer; null for no limit.
    #[schema(example = 2)]
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
            starts_at: sale.starts_at,
            ends_at: sale.ends_at,
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

/// A sale to be written down.
#[derive(ToSchema)]
#[schema(as = NewSale)]
#[allow(dead_code)] // only for the OpenAPI document: the fields are read one by one
pub struct SaleSchema {
    /// The ids of the products that are sold.
    #[schema(example = json!([3]), min_items = 1, max_items = 100)]
    products: Vec<i64>,
    /// When orders are taken from.
    #[schema(value_type = String, format = DateTime, example = "2036-11-27T10:00:00Z")]
    starts_at: String,
    /// When no order is taken any more; after the start.
    #[schema(value_type = String, format = DateTime, example = "2036-11-27T11:00:00Z")]
    ends_at: String,
    /// The most units of one product for one customer; no limit unless given.
    #[schema(minimum = 1, maximum = 1_000_000)]
    per_customer: Option<i64>,
    /// Whether it stays closed at its start, until this is changed; false unless given.
    held_back: Option<bool>,
}

/// Reads a sale.
///
/// # Errors
/// All wrong fields at once.
pub fn read(name: SaleName, body: &Bytes) -> Result<Sale, Problem> {
    let text = JsonText::check(body)?;
    let names = ["products", "starts_at", "ends_at", "per_customer", "held_back"];
    let mut fields = Fields::read(&text, names)?;
    let products = fields.required("products", products);
    let starts_at = fields.required("starts_at", time);
    let ends_at = fields.required("ends_at", time);
    let per_customer = fields.nullable("per_customer", limit).flatten();
    let held_back = fields.nullable("held_back", value::boolean).flatten().unwrap_or(false);
    fields.finish()?;
    let (Some(products), Some(starts_at), Some(ends_at)) = (products, starts_at, ends_at) else {
        // `finish` has named what is missing.
        return Err(Problem::body("must have products, starts_at and ends_at"));
    };
    if ends_at <= starts_at {
        let error = FieldError::new("ends_at", "must be after starts_at");
        return Err(Problem::validation(vec![error]));
    }
    Ok(Sale { name, products, starts_at, ends_at, per_customer, held_back })
}

fn products(raw: &RawValue) -> Result<BTreeSet<ProductId>, Invalid> {
    let ids = value::elements(raw, MAX_SALE_PRODUCTS).filter(|ids| !ids.is_empty());
    let ids = ids.and_then(|ids| ids.into_iter().map(|id| value::integer(id).ok()).collect());
    ids.map(|ids: Vec<i64>| ids.into_iter().map(ProductId).collect()).ok_or_else(|| {
        format!("must be an array of 1 to {MAX_SALE_PRODUCTS} ids of products").into()
    })
}

/// To the microsecond, as the database keeps it.
fn time(raw: &RawValue) -> Result<Timestamp, Invalid> {
    let time = value::text(raw)?.parse::<Timestamp>().ok();
    time.and_then(|time| Timestamp::from_microsecond(time.as_microsecond()).ok())
        .ok_or_else(|| "must be a time with its offset, such as 2026-11-27T10:00:00Z".into())
}

fn limit(raw: &RawValue) -> Result<u32, Invalid> {
    let units = u32::try_from(value::integer(raw)?).ok();
    units
        .filter(|units| (1..=MAX_PER_CUSTOMER).contains(units))
        .ok_or_else(|| format!("must be between 1 and {MAX_PER_CUSTOMER}").into())
}
