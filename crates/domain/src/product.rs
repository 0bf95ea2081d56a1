//! Products, their prices and their stock.

use crate::{
    Invalid, LedgerReason, Money, ProductId, Stock, StockNote,
    text::{self, checked_text},
};

/// The longest product name, in characters.
pub const MAX_NAME_CHARS: usize = 200;
/// The longest product description, in characters.
pub const MAX_DESCRIPTION_CHARS: usize = 10_000;

/// A product's name: 1 to [`MAX_NAME_CHARS`] characters, not only blanks, on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProductName(String);

impl ProductName {
    /// Checks a name.
    ///
    /// # Errors
    /// The name has no visible character, is too long, or has a line break or another
    /// control character.
    pub fn new(name: String) -> Result<Self, Invalid> {
        text::name(name, MAX_NAME_CHARS).map(Self)
    }

    /// A stored name, which may have been checked by older rules.
    pub fn kept(name: String) -> Self {
        Self(name)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for ProductName {
    type Err = Invalid;

    fn from_str(name: &str) -> Result<Self, Invalid> {
        Self::new(name.to_owned())
    }
}

/// A product's description: up to [`MAX_DESCRIPTION_CHARS`] characters without NUL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProductDescription(String);

impl ProductDescription {
    /// Checks a description.
    ///
    /// # Errors
    /// The text is too long or contains NUL.
    pub fn new(text: String) -> Result<Self, Invalid> {
        checked_text(text, MAX_DESCRIPTION_CHARS).map(Self)
    }

    /// A stored description.
    pub fn kept(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    pub id: ProductId,
    pub name: ProductName,
    /// Its description, if there is one.
    pub description: Option<ProductDescription>,
    /// The price of one unit.
    pub price: Money,
    /// The units left.
    pub stock: Stock,
    /// Grows by one with each committed change, including sales; starts at 1.
    pub version: i64,
}

/// A product to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProductDraft {
    pub name: ProductName,
    /// Its description, if there is one.
    pub description: Option<ProductDescription>,
    /// The price of one unit.
    pub price: Money,
    /// The units in stock.
    pub stock: Stock,
}

/// A partial change of a product: a field that is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProductChanges {
    /// A new name.
    pub name: Option<ProductName>,
    /// A new description; `Some(None)` removes it.
    pub description: Option<Option<ProductDescription>>,
    /// A new price, for later orders.
    pub price: Option<Money>,
    /// A new stock.
    pub stock: Option<StockEdit>,
}

/// A new stock in place of the stock of the locked row, and its entry in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StockEdit {
    /// The new number of units.
    pub stock: Stock,
    /// Whether the new stock was given, or computed from the old one.
    pub reason: LedgerReason,
    /// The caller's reason.
    pub note: Option<StockNote>,
}

impl StockEdit {
    pub fn set(stock: Stock) -> Self {
        Self { stock, reason: LedgerReason::Set, note: None }
    }
}

impl ProductChanges {
    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.name.is_none()
            && self.description.is_none()
            && self.price.is_none()
            && self.stock.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for bad in ["", "  ", "a\0b", &"x".repeat(201)] {
            assert!(ProductName::new(bad.to_owned()).is_err(), "{bad:?}");
        }
        for good in ["x", "Füße ☃", &"ß".repeat(200)] {
            assert!(ProductName::new(good.to_owned()).is_ok(), "{good:?}");
        }
    }
}
