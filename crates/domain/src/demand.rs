//! What callers want of the stock.

use smallvec::SmallVec;

use crate::{HoldId, Money, OrderId, OrderStatus, ProductId, Quantity};

/// One product within an order, as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Of which product.
    pub product_id: ProductId,
    /// How many units.
    pub quantity: Quantity,
    /// The hold that keeps exactly these units, if they are to come from one.
    pub hold: Option<HoldId>,
    /// What the customer was told that one unit costs. At another price nothing is ordered.
    pub expected_price: Option<Money>,
}

impl Line {
    /// Units from stock, at whatever they cost.
    pub fn from_stock(product_id: ProductId, quantity: Quantity) -> Self {
        Self { product_id, quantity, hold: None, expected_price: None }
    }
}

/// The lines of an order. Nearly every order has one, which then needs no memory of its own.
pub type Lines = SmallVec<[Line; 1]>;

/// What one caller wants of the stock. Whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Units for good.
    Order(Lines),
    /// Units for a while.
    Hold {
        /// Of which product.
        product_id: ProductId,
        /// How many units.
        quantity: Quantity,
        /// What the customer was told that one unit costs. At another price nothing is held.
        expected_price: Option<Money>,
    },
    /// The units of an order back, if it still stands where the caller has seen it.
    Cancel {
        /// Which order.
        order_id: OrderId,
        /// Where it must stand.
        from: OrderStatus,
        /// Whether an operator has settled that it is not fulfilled, though a try may have been taken.
        settled: bool,
        /// Its lines, which never change.
        lines: Lines,
    },
    /// The units of a hold back, before its time is over.
    Release {
        /// Which hold.
        hold_id: HoldId,
        /// Of which product it is, which never changes.
        product_id: ProductId,
    },
    /// The units of these holds of a product back, as far as their time is over. Not whole or not at all: those
    /// that can come back do.
    Expire {
        /// Of which product they are.
        product_id: ProductId,
        /// Which holds.
        holds: Vec<HoldId>,
    },
}

impl Demand {
    /// An order of one line, from stock.
    pub fn one(product_id: ProductId, quantity: Quantity) -> Self {
        Self::Order(SmallVec::from_buf([Line::from_stock(product_id, quantity)]))
    }

    /// The products whose rows must be locked, in no order, some perhaps twice.
    pub fn products(&self) -> impl Iterator<Item = ProductId> {
        let (lines, product): (&[Line], _) = match self {
            Self::Order(lines) | Self::Cancel { lines, .. } => (lines, None),
            Self::Hold { product_id, .. }
            | Self::Release { product_id, .. }
            | Self::Expire { product_id, .. } => (&[], Some(*product_id)),
        };
        lines.iter().map(|line| line.product_id).chain(product)
    }

    /// The holds that must be looked at.
    pub fn holds(&self) -> impl Iterator<Item = HoldId> {
        let (lines, holds): (&[Line], &[HoldId]) = match self {
            Self::Order(lines) => (lines, &[]),
            Self::Release { hold_id, .. } => (&[], std::slice::from_ref(hold_id)),
            Self::Expire { holds, .. } => (&[], holds),
            Self::Hold { .. } | Self::Cancel { .. } => (&[], &[]),
        };
        lines.iter().filter_map(|line| line.hold).chain(holds.iter().copied())
    }

    /// The order that must be looked at.
    pub fn order(&self) -> Option<OrderId> {
        match self {
            Self::Cancel { order_id, .. } => Some(*order_id),
            _ => None,
        }
    }
}
