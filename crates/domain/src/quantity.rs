//! Numbers of units: the quantity of an order line, and the stock of a product.

use crate::Invalid;

/// The highest possible stock of a product.
pub const MAX_STOCK: i64 = 1_000_000_000;

/// The number of units in an order line or a hold: 1 to the configured maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(i32);

impl Quantity {
    /// One unit.
    pub const ONE: Self = Self(1);

    /// A quantity from 1 to `max`.
    ///
    /// # Errors
    /// The number is outside that range.
    pub fn new(units: i64, max: i32) -> Result<Self, Invalid> {
        i32::try_from(units)
            .ok()
            .filter(|units| (1..=max).contains(units))
            .map(Self)
            .ok_or_else(|| format!("must be between 1 and {max}").into())
    }

    /// The number of units.
    pub fn units(self) -> i32 {
        self.0
    }
}

/// The units of a product in stock: 0 to [`MAX_STOCK`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stock(i64);

impl Stock {
    /// A stock of `units`.
    ///
    /// # Errors
    /// The number is negative or above [`MAX_STOCK`].
    pub fn new(units: i64) -> Result<Self, Invalid> {
        if (0..=MAX_STOCK).contains(&units) {
            Ok(Self(units))
        } else {
            Err(format!("must be between 0 and {MAX_STOCK}").into())
        }
    }

    /// The number of units.
    pub fn units(self) -> i64 {
        self.0
    }

    /// The stock without `quantity`, or `None` if there is not enough.
    pub fn take(self, quantity: Quantity) -> Option<Self> {
        let left = self.0 - i64::from(quantity.units());
        (left >= 0).then_some(Self(left))
    }

    /// The stock with `quantity` more units; never more than [`MAX_STOCK`].
    pub fn put_back(self, quantity: Quantity) -> Self {
        Self((self.0 + i64::from(quantity.units())).min(MAX_STOCK))
    }
}
