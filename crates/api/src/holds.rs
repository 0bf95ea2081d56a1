//! A hold as the API shows it.

use holdfast_domain::{CustomerRef, Hold, HoldStatus};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    problem::{Problem, ProblemKind},
    request::words,
    shown_time::ShownTime,
};

/// Units of a product that are kept for a customer for a while.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Hold)]
pub struct HoldBody {
    /// Given by the server.
    #[schema(example = 17)]
    pub id: i64,
    /// Of which product.
    #[schema(example = 3)]
    pub product_id: i64,
    /// How many units.
    #[schema(example = 2)]
    pub quantity: i32,
    /// What one unit cost when the hold was made; an order from it pays that.
    #[schema(example = 499.90)]
    pub unit_price: f64,
    /// `active` while it keeps its units; then `used`, `released` or `expired`.
    #[schema(example = "active")]
    pub status: HoldState,
    /// The shop's own name for the customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "customer-42")]
    pub customer_ref: Option<String>,
    /// When its time is over.
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00.123456Z")]
    pub expires_at: ShownTime,
    /// When it was made.
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00.123456Z")]
    pub created_at: ShownTime,
    /// The order that used it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_id: Option<i64>,
}

words! {
    /// Where a hold stands: `active` while it keeps its units; `used` by an order, `released` by its customer, or `expired`
    /// when its time was over.
    HoldState of HoldStatus
}

impl From<Hold> for HoldBody {
    fn from(hold: Hold) -> Self {
        Self {
            id: hold.id.0,
            product_id: hold.product_id.0,
            quantity: hold.quantity.units(),
            unit_price: hold.unit_price.to_major_f64(),
            status: HoldState(hold.status),
            customer_ref: hold.customer_ref.map(CustomerRef::into_inner),
            expires_at: hold.expires_at.into(),
            created_at: hold.created_at.into(),
            order_id: hold.order_id.map(|id| id.0),
        }
    }
}

/// There is no such hold, or this caller may not know of it.
pub fn unknown(id: i64) -> Problem {
    Problem::with_detail(ProblemKind::NotFound, format!("There is no hold with the id {id}."))
}
