//! The stock ledger: each change of a product's stock.

use crate::{Invalid, ProductId, Stock, named, text::visible_text};

/// The longest reason that a person can give for a change of stock, in characters.
pub const MAX_STOCK_NOTE_CHARS: usize = 500;

named! {
    /// The kind of a change.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum LedgerReason {
        /// The stock of a new product.
        Opening = "opening",
        /// A person or program set the stock.
        Set = "set",
        /// A person or program added units to the stock or removed some.
        Adjustment = "adjustment",
        /// A batch of orders, cancellations and holds.
        Admission = "admission",
        /// A change that Holdfast did not make: by another program, or a person with a database client.
        Unknown = "unknown",
    }
}

/// A person's reason for a change of stock: 1 to [`MAX_STOCK_NOTE_CHARS`] characters without NUL, not
/// only blanks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StockNote(String);

impl StockNote {
    /// Checks a text.
    ///
    /// # Errors
    /// The text is empty, blank or too long, or contains NUL.
    pub fn new(text: String) -> Result<Self, Invalid> {
        visible_text(text, MAX_STOCK_NOTE_CHARS).map(Self)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A change of a product's stock. The first entry's `delta` is its `stock_after`; each later
/// `stock_after` is the previous one plus `delta`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    pub product_id: ProductId,
    /// The product's version after the change.
    pub version: i64,
    /// The kind of a change.
    pub reason: LedgerReason,
    /// Units added; negative if they were removed.
    pub delta: i64,
    /// Units for sale afterwards.
    pub stock_after: Stock,
    /// Units in active holds afterwards.
    pub held_after: i64,
    /// In a batch: units sold.
    pub sold: i64,
    /// In a batch: units returned by cancelled orders.
    pub returned: i64,
    /// In a batch: units moved into holds, minus units returned from holds.
    pub held: i64,
    /// The reason that a person gave.
    pub note: Option<String>,
    /// When it was created.
    pub created_at: jiff::Timestamp,
}
