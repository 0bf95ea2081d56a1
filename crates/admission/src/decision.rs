//! The decisions of admission.

use std::time::Duration;

use holdfast_domain::{
    AllocatedLines, CustomerRef, HoldId, HoldStatus, Metadata, Money, OrderId, ProductId, Quantity,
    Shortfall,
};

/// The decision on an accepted order, which is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderDecision {
    /// A new order.
    Accepted(AcceptedOrder),
    /// The order of an earlier request that was the same.
    Repeated(OrderId),
}

/// The decision on an accepted hold, which is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldDecision {
    /// A new hold.
    Accepted(AcceptedHold),
    /// The hold of an earlier request that was the same.
    Repeated(HoldId),
}

/// An accepted order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedOrder {
    /// Its id.
    pub id: OrderId,
    /// Its lines, in the order of the request.
    pub lines: AllocatedLines,
    /// Its customer: that of the request, or that of its holds.
    pub customer_ref: Option<CustomerRef>,
    /// Its metadata.
    pub metadata: Option<Metadata>,
    /// When it was accepted.
    pub created_at: jiff::Timestamp,
}

/// An accepted hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedHold {
    /// Its id.
    pub id: HoldId,
    /// Its product.
    pub product_id: ProductId,
    /// The number of units.
    pub quantity: Quantity,
    /// The price of one unit.
    pub unit_price: Money,
    /// How long it lasts.
    pub lasts: Duration,
    /// Its customer.
    pub customer_ref: Option<CustomerRef>,
    /// When it was accepted.
    pub created_at: jiff::Timestamp,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The rules of stock do not allow it.
    #[error("the rules of stock do not allow the request")]
    Short(Shortfall),
    /// The key was used for a different request.
    #[error("the idempotency key belongs to another request")]
    KeyReused,
    /// Too many requests are waiting, or this one has waited for too long.
    #[error("too many requests are waiting")]
    Full,
    /// A row was locked for too long.
    #[error("a row stayed locked for too long")]
    LockTimeout,
    /// The database is not available.
    #[error("the database is not available")]
    Unavailable,
    /// The commit was not answered, and its outcome could not be determined in time. The request may have been granted.
    #[error("it is not known whether the request was granted")]
    OutcomeUnknown,
    /// A bug: the database refuses this request, or something impossible has happened.
    #[error("internal error")]
    Internal,
    /// This process is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl Refusal {
    /// All values of [`Self::reason`].
    pub const REASONS: [&str; 23] = [
        "unknown_product",
        "not_enough",
        "price_changed",
        "sale_not_open",
        "sale_over",
        "over_limit",
        "customer_needed",
        "unknown_hold",
        "hold_expired",
        "hold_ended",
        "hold_differs",
        "customer_differs",
        "unknown_order",
        "order_moved",
        "order_may_be_fulfilled",
        "stock_full",
        "key_reused",
        "full",
        "lock_timeout",
        "unavailable",
        "outcome_unknown",
        "internal",
        "shutting_down",
    ];

    /// The label of the metric, from a bounded set.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Short(Shortfall::UnknownProduct(_)) => "unknown_product",
            Self::Short(Shortfall::NotEnough { .. }) => "not_enough",
            Self::Short(Shortfall::PriceChanged { .. }) => "price_changed",
            Self::Short(Shortfall::SaleNotOpen { .. }) => "sale_not_open",
            Self::Short(Shortfall::SaleOver(_)) => "sale_over",
            Self::Short(Shortfall::OverLimit { .. }) => "over_limit",
            Self::Short(Shortfall::CustomerNeeded(_)) => "customer_needed",
            Self::Short(Shortfall::UnknownHold(_)) => "unknown_hold",
            Self::Short(Shortfall::HoldEnded { status: HoldStatus::Expired, .. }) => "hold_expired",
            Self::Short(Shortfall::HoldEnded { .. }) => "hold_ended",
            Self::Short(Shortfall::HoldDiffers(_)) => "hold_differs",
            Self::Short(Shortfall::CustomerDiffers(_)) => "customer_differs",
            Self::Short(Shortfall::UnknownOrder) => "unknown_order",
            Self::Short(Shortfall::OrderMoved(_)) => "order_moved",
            Self::Short(Shortfall::OrderMayBeFulfilled(_)) => "order_may_be_fulfilled",
            Self::Short(Shortfall::StockFull(_)) => "stock_full",
            Self::KeyReused => "key_reused",
            Self::Full => "full",
            Self::LockTimeout => "lock_timeout",
            Self::Unavailable => "unavailable",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Internal => "internal",
            Self::ShuttingDown => "shutting_down",
        }
    }
}
