//! A hold as the API shows it.

use holdfast_domain::{CustomerRef, Hold, HoldStatus};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    problem::{Problem, ProblemKind},
    request::words,
    shown_time::ShownTime,
};

/// Units of a product that are reserved for a customer for a limited time.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Hold)]
pub struct HoldBody {
    /// The id, assigned by the server.
    #[schema(example = 17)]
    pub id: i64,
    /// The id of the product.
    #[schema(example = 3)]
    pub product_id: i64,
    /// The number of units.
    #[schema(example = 2)]
    pub quantity: i32,
    /// The price of one unit when the hold was created. An order from the hold has this price.
    #[schema(example = 499.90)]
    pub unit_price: f64,
    /// `active` while the units are reserved, then `used`, `released` or `expired`.
    #[schema(example = "active")]
    pub status: HoldState,
    /// The shop's reference for the customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "customer-42")]
    pub customer_ref: Option<String>,
    /// The time at which the hold expires.
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00.123456Z")]
    pub expires_at: ShownTime,
    /// The time at which the hold was created.
    #[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00.123456Z")]
    pub created_at: ShownTime,
    /// The id of the order that used the hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_id: Option<i64>,
}

words! {
    /// The status of a hold: `active` while its units are reserved, `used` by an order, `released` by its customer, or
    /// `expired`.
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

/// The hold does not exist, or the caller may not see it.
pub fn unknown(id: i64) -> Problem {
    Problem::with_detail(ProblemKind::NotFound, format!("There is no hold with id {id}."))
}
