//! What a receiver is told of an order.

use holdfast_domain::{CustomerRef, OrderLine};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::Work;

/// The event's name. Nothing else is sent.
const ACCEPTED: &str = "order.accepted";

/// An event, in the form that Standard Webhooks recommends.
#[derive(Serialize)]
struct Event<'a> {
    r#type: &'static str,
    /// When it happened, so it is the same with each try.
    timestamp: jiff::Timestamp,
    data: OrderData<'a>,
}

/// The names are those of the API.
#[derive(Serialize)]
struct OrderData<'a> {
    id: i64,
    items: Vec<Item>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_ref: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    created_at: jiff::Timestamp,
}

#[derive(Serialize)]
struct Item {
    product_id: i64,
    quantity: i32,
    unit_price: f64,
}

impl From<&OrderLine> for Item {
    fn from(line: &OrderLine) -> Self {
        Self {
            product_id: line.product_id.0,
            quantity: line.quantity.units(),
            unit_price: line.unit_price.to_major_f64(),
        }
    }
}

/// The id of the message: the same with each try of the order, in each of its lives.
pub(super) fn message_id(work: &Work) -> String {
    format!("order_{}", work.order_id)
}

/// The body, byte for byte the same with each try.
pub(super) fn body(work: &Work) -> serde_json::Result<Vec<u8>> {
    // Passed on as it stands: only where it ends is looked for.
    #[allow(clippy::disallowed_methods)]
    let metadata = work.metadata.as_ref().map(|json| serde_json::from_str(json.as_str()));
    serde_json::to_vec(&Event {
        r#type: ACCEPTED,
        timestamp: work.created_at,
        data: OrderData {
            id: work.order_id.0,
            items: work.lines.iter().map(Item::from).collect(),
            customer_ref: work.customer_ref.as_ref().map(CustomerRef::as_str),
            metadata: metadata.transpose()?,
            created_at: work.created_at,
        },
    })
}
