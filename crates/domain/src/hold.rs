//! Units that are reserved for a customer for a limited time.

use crate::{CustomerRef, HoldId, Money, OrderId, ProductId, Quantity, named};

named! {
    /// The status of a hold.
    ///
    /// ```text
    /// active ──▶ used | released | expired
    /// ```
    ///
    /// A hold expires when its time is over. From then on, reads show it as expired, even if its row has not
    /// been updated yet.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum HoldStatus {
        /// Its units are reserved.
        Active = "active",
        /// An order has taken its units.
        Used = "used",
        /// Released before its time was over; its units are in stock again.
        Released = "released",
        /// Its time is over; its units are in stock again, or will be when they are needed.
        Expired = "expired",
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub id: HoldId,
    pub product_id: ProductId,
    /// The number of units.
    pub quantity: Quantity,
    pub unit_price: Money,
    pub status: HoldStatus,
    /// The shop's reference to the customer.
    pub customer_ref: Option<CustomerRef>,
    /// When its time is over.
    pub expires_at: jiff::Timestamp,
    /// When it was created.
    pub created_at: jiff::Timestamp,
    /// When it ended, if it has.
    pub ended_at: Option<jiff::Timestamp>,
    /// The order that used it.
    pub order_id: Option<OrderId>,
}
