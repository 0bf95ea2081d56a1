//! The body of a webhook request.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use holdfast_domain::{CustomerRef, OrderLine, time};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{Handover, OrderToFulfil};

/// The only type of event.
const ACCEPTED: &str = "order.accepted";

/// The format that Standard Webhooks recommends.
#[derive(Serialize)]
struct WebhookEvent<'a> {
    r#type: &'static str,
    /// The time of the event, so every attempt has the same.
    #[serde(serialize_with = "time::serialize")]
    timestamp: jiff::Timestamp,
    data: OrderData<'a>,
}

/// With the field names of the API.
#[derive(Serialize)]
struct OrderData<'a> {
    id: i64,
    items: Vec<EventItem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_ref: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    #[serde(serialize_with = "time::serialize")]
    created_at: jiff::Timestamp,
}

#[derive(Serialize)]
struct EventItem {
    product_id: i64,
    quantity: i32,
    unit_price: f64,
}

impl From<&OrderLine> for EventItem {
    fn from(line: &OrderLine) -> Self {
        Self {
            product_id: line.product_id.0,
            quantity: line.quantity.units(),
            unit_price: line.unit_price.to_major_f64(),
        }
    }
}

/// The id of the message. It is the same for all attempts of the order, also after a replay, and unique for ever. The id of
/// the order alone is not: it may be assigned again after a restore, or after a failover that lost commits.
pub(super) fn message_id(work: &OrderToFulfil) -> String {
    match work.nonce {
        Some(nonce) => format!("order_{}_{nonce:016x}", work.order_id),
        // An older release may have sent the order with this id.
        None => format!("order_{}", work.order_id),
    }
}

/// The body, identical for all attempts.
pub(super) fn body(work: &OrderToFulfil) -> serde_json::Result<Vec<u8>> {
    // Passed on unchanged; only its end is looked for.
    #[allow(clippy::disallowed_methods)]
    let metadata = work.metadata.as_ref().map(|json| serde_json::from_str(json.as_str()));
    serde_json::to_vec(&WebhookEvent {
        r#type: ACCEPTED,
        timestamp: work.created_at,
        data: OrderData {
            id: work.order_id.0,
            items: work.lines.iter().map(EventItem::from).collect(),
            customer_ref: work.customer_ref.as_ref().map(CustomerRef::as_str),
            metadata: metadata.transpose()?,
            created_at: work.created_at,
        },
    })
}

/// The body of a request. It asks the handover before it is sent. So if an attempt is given up while its request still waits
/// for a connection, the request is never sent.
pub(super) struct Payload {
    bytes: Option<Bytes>,
    handover: Handover,
}

/// The attempt was given up before its order was sent.
#[derive(Debug, thiserror::Error)]
#[error("the attempt is over")]
pub(super) struct AttemptIsOver;

impl Payload {
    pub(super) fn new(bytes: Vec<u8>, handover: Handover) -> Self {
        Self { bytes: Some(bytes.into()), handover }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = AttemptIsOver;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AttemptIsOver>>> {
        Poll::Ready(self.bytes.take().map(|bytes| {
            if self.handover.may_be_taken() { Ok(Frame::data(bytes)) } else { Err(AttemptIsOver) }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
