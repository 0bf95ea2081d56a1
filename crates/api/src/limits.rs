//! The bounds of orders and holds, which are settings.

use std::time::Duration;

/// The bounds of orders and holds.
#[derive(Clone, Copy, Debug)]
pub struct OrderLimits {
    /// The most units of one product in an order or a hold.
    pub quantity: i32,
    /// The most lines of an order.
    pub lines: usize,
    /// The longest that a hold may be asked to last.
    pub hold: Duration,
}
