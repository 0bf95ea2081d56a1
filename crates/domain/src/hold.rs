//! Units that are kept for a customer for a while.

use crate::{CustomerRef, HoldId, Money, OrderId, ProductId, Quantity, UnknownWord};

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
    Active,
    /// An order has taken its units.
    Used,
    /// Released before its time was over; its units are back in stock.
    Released,
    /// Its time is over; its units are back in stock, or will be when they are needed.
    Expired,
}

impl HoldStatus {
    /// Each status.
    pub const ALL: [Self; 4] = [Self::Active, Self::Used, Self::Released, Self::Expired];

    /// The word used in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Used => "used",
            Self::Released => "released",
            Self::Expired => "expired",
        }
    }
}

impl std::fmt::Display for HoldStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for HoldStatus {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| UnknownWord(text.to_owned()))
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
