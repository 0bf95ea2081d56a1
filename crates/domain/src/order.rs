//! Orders and their life.

use crate::{Money, OrderId, ProductId, Quantity};

/// Where an order stands.
///
/// ```text
/// pending ──▶ processing ──▶ completed
///    │  ▲          │ ├─────▶ failed
///    │  └──retry───┘
///    └──▶ cancelled
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OrderStatus {
    /// Accepted and committed; nobody works on it.
    Pending,
    /// A worker holds a lease on it.
    Processing,
    /// Fulfilled. Final.
    Completed,
    /// Could not be fulfilled. Final, unless an operator replays it.
    Failed,
    /// Taken back before anybody worked on it; its units are in stock again. Final.
    Cancelled,
}

/// A text that names no order status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown order status {0:?}")]
pub struct UnknownStatus(pub String);

impl OrderStatus {
    /// Each status, in the order of an order's life.
    pub const ALL: [Self; 5] =
        [Self::Pending, Self::Processing, Self::Completed, Self::Failed, Self::Cancelled];

    /// The word used in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing will change any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// Whether an order may go from this status to `next`: the one place that knows.
    pub fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Pending, Self::Processing | Self::Cancelled)
                | (Self::Processing, Self::Completed | Self::Failed | Self::Pending)
        )
    }
}

impl std::fmt::Display for OrderStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for OrderStatus {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| UnknownStatus(text.to_owned()))
    }
}

/// An order as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its id.
    pub id: OrderId,
    /// What was ordered.
    pub product_id: ProductId,
    /// How many units.
    pub quantity: Quantity,
    /// What one unit cost when the order was accepted.
    pub unit_price: Money,
    /// Where it stands.
    pub status: OrderStatus,
    /// How often a worker has begun it.
    pub attempt: i32,
    /// Why it failed, or why its last attempt did.
    pub failure: Option<String>,
    /// When it was accepted.
    pub created_at: jiff::Timestamp,
    /// When a worker last began it.
    pub processing_at: Option<jiff::Timestamp>,
    /// When it reached a final status.
    pub finished_at: Option<jiff::Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_is_read_back_from_its_word() {
        for status in OrderStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert!("PENDING".parse::<OrderStatus>().is_err());
    }

    #[test]
    fn nothing_leaves_a_final_status() {
        for from in OrderStatus::ALL.into_iter().filter(|status| status.is_final()) {
            for to in OrderStatus::ALL {
                assert!(!from.may_become(to), "{from} to {to}");
            }
        }
    }

    #[test]
    fn the_arrows_of_the_drawing_are_the_only_ones() {
        let arrows = OrderStatus::ALL
            .into_iter()
            .flat_map(|from| OrderStatus::ALL.map(|to| (from, to)))
            .filter(|(from, to)| from.may_become(*to))
            .map(|(from, to)| format!("{from}>{to}"))
            .collect::<Vec<_>>();
        assert_eq!(
            arrows,
            [
                "pending>processing",
                "pending>cancelled",
                "processing>pending",
                "processing>completed",
                "processing>failed"
            ]
        );
    }
}
