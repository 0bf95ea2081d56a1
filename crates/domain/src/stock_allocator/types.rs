//! What the allocator is given, and what it answers.

use smallvec::SmallVec;

use crate::{
    CustomerRef, HoldId, HoldStatus, Money, OrderStatus, ProductId, Quantity, Selling, Stock,
};

/// A locked product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Available {
    /// Units left.
    pub stock: Stock,
    /// Units in active holds; they are not in `stock`.
    pub held: i64,
    /// What one unit costs.
    pub price: Money,
    /// The row's version before the batch.
    pub version: i64,
    /// Whether the product is sold at all; a retired one is not.
    pub on_sale: bool,
    /// By the flash sales that it is in.
    pub selling: Selling,
}

/// A locked hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldUnits {
    /// The product.
    pub product_id: ProductId,
    /// The number of units.
    pub quantity: Quantity,
    /// What one unit cost when the hold was made: the price that an order from it pays.
    pub unit_price: Money,
    /// The customer, who gets the order that uses the hold.
    pub customer: Option<CustomerRef>,
    /// One whose time is over is [`HoldStatus::Expired`], whether or not the row says so.
    pub status: HoldStatus,
    /// Whether the row says that it is active: its units are neither back in stock nor sold.
    pub kept: bool,
}

/// A locked order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockedOrder {
    /// Its status.
    pub status: OrderStatus,
    /// As [`Order::may_be_fulfilled`](crate::Order::may_be_fulfilled).
    pub may_be_fulfilled: bool,
}

/// What a customer has of a product with a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CustomerTotals {
    /// Units in orders that were not cancelled, from stock or from holds.
    pub ordered: i64,
    /// Units in active holds.
    pub held: i64,
}

/// An order that got its units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocatedOrder {
    /// Its lines, in the order of the request.
    pub lines: AllocatedLines,
    /// The customer of its holds, if the order names no customer.
    pub inherited: Option<CustomerRef>,
}

/// The lines of an order that got its units.
pub type AllocatedLines = SmallVec<[AllocatedLine; 1]>;

/// A line of an order that got its units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocatedLine {
    /// The product.
    pub product_id: ProductId,
    /// The number of units.
    pub quantity: Quantity,
    /// The hold that kept the units, if they come from one.
    pub hold: Option<HoldId>,
    /// The price of one unit.
    pub unit_price: Money,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortfall {
    /// There is no such product, or it is no longer sold.
    UnknownProduct(ProductId),
    /// Fewer units are left than are asked for.
    NotEnough {
        /// The product.
        product_id: ProductId,
        /// The units left.
        left: Stock,
    },
    /// There is no such hold.
    UnknownHold(HoldId),
    /// The product's flash sale is not open yet.
    SaleNotOpen {
        /// The product.
        product_id: ProductId,
        /// When it opens; `None` if it could be open and is held back.
        starts_at: Option<jiff::Timestamp>,
    },
    /// The product's flash sale is over.
    SaleOver(ProductId),
    /// The customer would get more of the product than its flash sale allows.
    OverLimit {
        /// The product.
        product_id: ProductId,
        /// The units that one customer may get.
        limit: u32,
        /// What is left of them for this customer.
        left: u32,
    },
    /// The product's flash sale has a limit for each customer, and the request names no customer.
    CustomerNeeded(ProductId),
    /// The hold is over.
    HoldEnded {
        /// The hold.
        hold_id: HoldId,
        /// How it ended.
        status: HoldStatus,
    },
    /// The hold is of another product or another quantity.
    HoldDiffers(HoldId),
    /// The price is not the one that the customer was told.
    PriceChanged {
        /// The product.
        product_id: ProductId,
        /// The price of one unit now; from a hold, the hold's price.
        current: Money,
    },
    /// The hold is for another customer than the order, or than another hold of the order.
    CustomerDiffers(HoldId),
    /// There is no such order.
    UnknownOrder,
    /// The order no longer has the status that the caller has seen.
    OrderMoved(OrderStatus),
    /// A try of the order may have been taken by the one who fulfils it.
    OrderMayBeFulfilled(OrderStatus),
    /// The product's stock would exceed the maximum.
    StockFull(ProductId),
}

/// A product that a batch changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductChange {
    /// The product.
    pub product_id: ProductId,
    /// The version of its row afterwards.
    pub version: i64,
    /// What its stock changes by: `returned - sold - held`.
    pub delta: i64,
    /// Units left afterwards.
    pub left: Stock,
    /// Units in holds afterwards.
    pub held_after: i64,
    /// Units sold, from stock or from holds.
    pub sold: i64,
    /// Units of cancelled orders.
    pub returned: i64,
    /// Units taken into holds, less those that came out of them.
    pub held: i64,
    /// Whether the product is sold at all; units can still come back to one that is not.
    pub on_sale: bool,
}
