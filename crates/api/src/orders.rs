//! An order as the API shows it.

use holdfast_domain::{Order, OrderStatus};
use jiff::{Timestamp, fmt::temporal::DateTimePrinter};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// An order that was just accepted.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AcceptedOrder)]
pub struct AcceptedBody {
    /// Given by the server; grows with time.
    #[schema(example = 4711)]
    pub id: i64,
    /// What was ordered.
    #[schema(example = 3)]
    pub product_id: i64,
    /// How many units.
    #[schema(example = 1)]
    pub quantity: i32,
    /// What one unit cost when the order was accepted.
    #[schema(example = 499.90)]
    pub unit_price: f64,
    /// Where it stands.
    #[schema(example = "pending", value_type = Status)]
    pub status: &'static str,
    /// When it was accepted.
    #[serde(serialize_with = "rfc3339")]
    #[schema(example = "2026-01-31T12:00:00.123456Z", value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// An order and what became of it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Order)]
pub struct OrderBody {
    /// The order as it was accepted, with its status of now.
    #[serde(flatten)]
    #[schema(inline)]
    pub accepted: AcceptedBody,
    /// How often a worker has begun it.
    #[schema(example = 1)]
    pub attempts: i32,
    /// Why it failed, or why its last attempt did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// When a worker last began it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub processing_at: Option<Timestamp>,
    /// When it reached a final status.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
}

/// Where an order stands. `completed`, `failed` and `cancelled` are final.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code)] // only for the OpenAPI document; the words come from the domain
pub enum Status {
    /// Accepted and committed; nobody works on it.
    Pending,
    /// A worker holds it.
    Processing,
    /// Fulfilled.
    Completed,
    /// Could not be fulfilled.
    Failed,
    /// Taken back.
    Cancelled,
}

impl From<Order> for OrderBody {
    fn from(order: Order) -> Self {
        Self {
            accepted: AcceptedBody {
                id: order.id.0,
                product_id: order.product_id.0,
                quantity: order.quantity.units(),
                unit_price: order.unit_price.to_major_f64(),
                status: order.status.as_str(),
                created_at: order.created_at,
            },
            attempts: order.attempt,
            failure: order.failure,
            processing_at: order.processing_at,
            finished_at: order.finished_at,
        }
    }
}

/// As jiff's own serialization, without its detour through `fmt`, which is a tenth of the work for an
/// order's answer.
fn rfc3339<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    const PRINTER: DateTimePrinter = DateTimePrinter::new();
    serializer.serialize_str(&PRINTER.timestamp_to_string(time))
}

/// The words for [`OrderStatus`], for a message to a person.
pub fn status_words() -> String {
    OrderStatus::ALL.map(OrderStatus::as_str).join(", ")
}
