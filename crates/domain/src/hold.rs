//! Units that are kept for a customer for a while.

use crate::{CustomerRef, HoldId, Money, OrderId, ProductId, Quantity, named};

named! {
    /// The status of a hold.
    ///
    /// ```text
    /// active ──▶ used | released | expired
    /// ```
    ///
    /// A hold expires by its time alone. A later read shows it as expired even if its row does not say so yet.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum HoldStatus {
        /// Its units are kept.
        Active = "active",
        /// An order has taken its units.
        Used = "used",
        /// Released before its time was over; its units are back in stock.
        Released = "released",
        /// Its time is over; its units are back in stock, or will be when they are needed.
        Expired = "expired",
    }
}

/// A hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Its id.
    pub id: HoldId,
    /// The product.
    pub product_id: ProductId,
    /// The number of units.
    pub quantity: Quantity,
    /// The price of one unit.
    pub unit_price: Money,
    /// Its status.
    pub status: HoldStatus,
    /// The shop's name for the customer.
    pub customer_ref: Option<CustomerRef>,
    /// When its time is over.
    pub expires_at: jiff::Timestamp,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// When it ended, if it has.
    pub ended_at: Option<jiff::Timestamp>,
    /// The order that used it.
    pub order_id: Option<OrderId>,
}
