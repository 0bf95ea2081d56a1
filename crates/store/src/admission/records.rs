//! What a batch writes besides the products.

use std::time::Duration;

use holdfast_domain::{AllocatedLine, HoldId, HoldStatus, Money, OrderId, ProductId, Quantity};
use jiff::Timestamp;

use crate::{dead_letters::Attribution, idempotency::IdempotencyKey};

/// The records of a batch.
#[derive(Debug, Default)]
pub struct Records<'a> {
    /// New orders. The holds of their lines become used.
    pub orders: Vec<OrderRecord<'a>>,
    /// New holds.
    pub holds: Vec<HoldRecord<'a>>,
    /// Holds that end without an order.
    pub ended: Vec<EndedHold>,
    /// Orders that are cancelled.
    pub cancelled: Vec<CancelledOrder<'a>>,
}

/// A record in the database, once its batch is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored<Id> {
    /// Its id.
    pub id: Id,
    /// The time of the batch, the same for all its records.
    pub created_at: Timestamp,
}

/// An order to be written.
#[derive(Debug)]
pub struct OrderRecord<'a> {
    /// Set when the order is written.
    pub stored: &'a mut Option<Stored<OrderId>>,
    /// At least one.
    pub lines: &'a [AllocatedLine],
    /// The shop's name for the customer.
    pub customer_ref: Option<&'a str>,
    /// A JSON text that is stored with the order.
    pub metadata: Option<&'a str>,
    /// The W3C `traceparent` of its request, if that is sampled.
    pub trace_context: Option<&'a str>,
    /// The key of its request.
    pub key: Option<IdempotencyKey>,
}

/// A hold to be written.
#[derive(Debug)]
pub struct HoldRecord<'a> {
    /// Set when the hold is written.
    pub stored: &'a mut Option<Stored<HoldId>>,
    /// The product.
    pub product_id: ProductId,
    /// The number of units.
    pub quantity: Quantity,
    /// The price of one unit.
    pub unit_price: Money,
    /// How long it lasts, from the batch's time.
    pub lasts: Duration,
    /// The shop's name for the customer.
    pub customer_ref: Option<&'a str>,
    /// The key of its request.
    pub key: Option<IdempotencyKey>,
}

/// A hold that ends without an order.
#[derive(Clone, Copy, Debug)]
pub struct EndedHold {
    /// The hold.
    pub id: HoldId,
    /// How it ended.
    pub status: HoldStatus,
}

/// An order to be cancelled.
#[derive(Clone, Copy, Debug)]
pub struct CancelledOrder<'a> {
    /// The order.
    pub id: OrderId,
    /// The operator who requested it, if that is recorded.
    pub ordered: Option<Attribution<'a>>,
}

impl Records<'_> {
    /// Whether there is nothing to be written.
    pub fn is_empty(&self) -> bool {
        let Self { orders, holds, ended, cancelled } = self;
        orders.is_empty() && holds.is_empty() && ended.is_empty() && cancelled.is_empty()
    }

    /// The first of the new orders, once it is written.
    pub(super) fn first_order(&self) -> Option<OrderId> {
        self.orders.first()?.stored.as_ref().map(|stored| stored.id)
    }
}
