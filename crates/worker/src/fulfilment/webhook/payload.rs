//! What a receiver is told of an order.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use holdfast_domain::{CustomerRef, OrderLine};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{Handover, Work};

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

/// The id of the message: the same with each try of the order, in each of its lives, and no other order's.
/// An order's id alone would not do: after a restore, or a failover that lost commits, it is given out again.
pub(super) fn message_id(work: &Work) -> String {
    match work.nonce {
        Some(nonce) => format!("order_{}_{nonce:016x}", work.order_id),
        // It may have been sent under this id by the release that accepted it.
        None => format!("order_{}", work.order_id),
    }
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

/// A request's body. It asks the handover before it leaves, so what is known of a try that was given up is
/// exact: a request that still waits for a connection is never sent afterwards.
pub(super) struct Payload {
    bytes: Option<Bytes>,
    handover: Handover,
}

/// The try was given up before its order was sent.
#[derive(Debug, thiserror::Error)]
#[error("the try is over")]
pub(super) struct TryIsOver;

impl Payload {
    pub(super) fn new(bytes: Vec<u8>, handover: Handover) -> Self {
        Self { bytes: Some(bytes.into()), handover }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = TryIsOver;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TryIsOver>>> {
        Poll::Ready(self.bytes.take().map(|bytes| {
            if self.handover.may_be_taken() { Ok(Frame::data(bytes)) } else { Err(TryIsOver) }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
