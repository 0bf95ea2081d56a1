//! The requests of a history, and their answers.

use std::collections::BTreeMap;

use holdfast_store::fulfilment::Taken;

/// Units by product.
pub type Items = BTreeMap<usize, i64>;

/// A line of an order, from a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FromHold {
    pub id: i64,
    pub product: usize,
    pub quantity: i64,
}

/// A request with the ids that the server assigned.
#[derive(Clone, Debug)]
pub enum ModelRequest {
    Order {
        /// From stock.
        items: Items,
        hold: Option<FromHold>,
        customer: Option<&'static str>,
        /// The expected price of one unit of each product.
        price: Option<i64>,
        key: Option<String>,
    },
    Cancel {
        order: i64,
    },
    Hold {
        product: usize,
        quantity: i64,
        customer: Option<&'static str>,
    },
    Price {
        product: usize,
        price: i64,
    },
    Release {
        hold: i64,
    },
    Adjust {
        product: usize,
        delta: i64,
    },
    Retire {
        product: usize,
    },
    /// A worker claims an order.
    Claim {
        order: i64,
    },
    /// A worker records an attempt that will be repeated later.
    Return {
        order: i64,
        attempt: i32,
        taken: Taken,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelAnswer {
    Placed(i64),
    Held(i64),
    /// Cancelled, released, deleted or returned.
    Done,
    Claimed(i32),
    Adjusted {
        stock: i64,
    },
    NotEnough {
        product: usize,
        left: i64,
    },
    UnknownProduct,
    OverLimit {
        left: i64,
    },
    /// The request names no customer, or another one than the hold.
    WrongCustomer,
    PriceChanged {
        product: usize,
        current: i64,
    },
    /// The order or hold is in another state.
    Stands(String),
    /// The receiver may have accepted an attempt of the order.
    MayBeFulfilled,
    KeyReused,
}

/// The kinds of answers, for counting.
pub const OUTCOMES: [&str; 12] = [
    "placed",
    "held",
    "done",
    "adjusted",
    "not enough",
    "unknown product",
    "stands elsewhere",
    "key reused",
    "may be fulfilled",
    "over limit",
    "wrong customer",
    "price changed",
];

impl ModelAnswer {
    pub fn outcome(&self) -> usize {
        match self {
            Self::Placed(_) => 0,
            Self::Held(_) => 1,
            Self::Done | Self::Claimed(_) => 2,
            Self::Adjusted { .. } => 3,
            Self::NotEnough { .. } => 4,
            Self::UnknownProduct => 5,
            Self::Stands(_) => 6,
            Self::KeyReused => 7,
            Self::MayBeFulfilled => 8,
            Self::OverLimit { .. } => 9,
            Self::WrongCustomer => 10,
            Self::PriceChanged { .. } => 11,
        }
    }

    /// Whether nothing was changed. Such an answer may come from the replica's memory, which may be slightly out of
    /// date; it must have been true at some time.
    pub fn is_refusal(&self) -> bool {
        self.outcome() >= 4
    }
}
