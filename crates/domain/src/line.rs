//! The lines of a requested order.

use smallvec::SmallVec;

use crate::{HoldId, Money, ProductId, Quantity};

/// A line of a requested order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestedLine {
    pub product_id: ProductId,
    /// The number of units.
    pub quantity: Quantity,
    /// The hold of exactly these units, if the line uses one.
    pub hold: Option<HoldId>,
    /// The unit price that the customer has seen. If the price is different now, nothing is ordered.
    pub expected_price: Option<Money>,
}

impl RequestedLine {
    /// Units from stock, at any price.
    pub fn from_stock(product_id: ProductId, quantity: Quantity) -> Self {
        Self { product_id, quantity, hold: None, expected_price: None }
    }
}

/// The lines of an order. Most orders have one line, which then needs no allocation.
pub type Lines = SmallVec<[RequestedLine; 1]>;
