//! The limits of orders and holds.

use std::time::Duration;

/// The limits of orders and holds.
#[derive(Clone, Copy, Debug)]
pub struct OrderLimits {
    /// The most units of one product in an order or a hold.
    pub quantity: i32,
    /// The most lines of an order.
    pub lines: usize,
    /// The longest duration of a hold.
    pub hold: Duration,
}
