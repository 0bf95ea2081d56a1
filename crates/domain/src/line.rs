//! The lines of an order that is asked for.

use smallvec::SmallVec;

use crate::{HoldId, Money, ProductId, Quantity};

/// One product within an order that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestedLine {
    /// The product.
    pub product_id: ProductId,
    /// The number of units.
    pub quantity: Quantity,
    /// The hold that keeps exactly these units, if they are to come from one.
    pub hold: Option<HoldId>,
    /// The price of one unit that the customer was told. At another price nothing is ordered.
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
