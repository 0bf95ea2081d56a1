//! Units that are kept for a customer for a while.

use crate::{CustomerRef, HoldId, Money, OrderId, ProductId, Quantity, UnknownWord};

/// Where a hold stands.
///
/// ```text
/// active ──▶ used | released | expired
/// ```
///
/// A hold expires by its time alone; whoever reads it later than that sees it as expired, whether or
/// not anybody has tidied up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HoldStatus {
    /// Its units are kept.
    Active,
    /// An order has taken its units.
    Used,
    /// Let go of before its time; its units are in stock again.
    Released,
    /// Its time is over; its units are in stock again, or will be when they are asked for.
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

/// A hold as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Its id.
    pub id: HoldId,
    /// Of which product.
    pub product_id: ProductId,
    /// How many units.
    pub quantity: Quantity,
    /// The price at which they are kept.
    pub unit_price: Money,
    /// Where it stands.
    pub status: HoldStatus,
    /// The shop's own name for the customer.
    pub customer_ref: Option<CustomerRef>,
    /// When its time is over.
    pub expires_at: jiff::Timestamp,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// When it came to an end, if it has.
    pub ended_at: Option<jiff::Timestamp>,
    /// The order that used it.
    pub order_id: Option<OrderId>,
}
