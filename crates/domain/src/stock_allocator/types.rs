//! The input and output of the allocator.

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
    /// The price of one unit.
    pub price: Money,
    /// The row's version before the batch.
    pub version: i64,
    /// Whether the product is on sale; a retired product is not.
    pub on_sale: bool,
    /// Whether its flash sales allow orders.
    pub selling: Selling,
}

/// A locked hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldUnits {
    pub product_id: ProductId,
    /// The number of units.
    pub quantity: Quantity,
    /// The price of one unit when the hold was created, which an order from the hold has.
    pub unit_price: Money,
    /// The customer, to whom an order from the hold belongs.
    pub customer: Option<CustomerRef>,
    /// The status. After its time, a hold is [`HoldStatus::Expired`], even if its row does
    /// not say so yet.
    pub status: HoldStatus,
    /// Whether the row says that it is active: its units have not been returned to stock
    /// or sold.
    pub kept: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockedOrder {
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
    pub product_id: ProductId,
    /// The number of units.
    pub quantity: Quantity,
    /// The hold of the units, if they are from one.
    pub hold: Option<HoldId>,
    pub unit_price: Money,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortfall {
    /// The product does not exist, or is no longer on sale.
    UnknownProduct(ProductId),
    /// Fewer units are left than requested.
    NotEnough {
        product_id: ProductId,
        /// The units left.
        left: Stock,
    },
    /// There is no such hold.
    UnknownHold(HoldId),
    /// The product's flash sale is not open yet.
    SaleNotOpen {
        product_id: ProductId,
        /// When it opens; `None` if it would be open but is held back.
        starts_at: Option<jiff::Timestamp>,
    },
    /// The product's flash sale is over.
    SaleOver(ProductId),
    /// The customer would get more of the product than its flash sale allows.
    OverLimit {
        product_id: ProductId,
        /// The most units for one customer.
        limit: u32,
        /// The units that are left for this customer.
        left: u32,
    },
    /// The product's flash sale has a limit for each customer, and the request names no customer.
    CustomerNeeded(ProductId),
    /// The hold is over.
    HoldEnded {
        hold_id: HoldId,
        /// How it ended.
        status: HoldStatus,
    },
    /// The hold is for another product or another quantity.
    HoldDiffers(HoldId),
    /// The price is not the expected one.
    PriceChanged {
        product_id: ProductId,
        /// The current price of one unit, or the price of the hold.
        current: Money,
    },
    /// The hold is for another customer than the order, or than another hold of the order.
    CustomerDiffers(HoldId),
    /// There is no such order.
    UnknownOrder,
    /// The order does not have the required status any more.
    OrderMoved(OrderStatus),
    /// The receiver may have accepted an attempt of the order.
    OrderMayBeFulfilled(OrderStatus),
    /// The product's stock would exceed the maximum.
    StockFull(ProductId),
}

/// A product that a batch changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductChange {
    pub product_id: ProductId,
    /// The version of its row afterwards.
    pub version: i64,
    /// The change of its stock: `returned - sold - held`.
    pub delta: i64,
    /// Units left afterwards.
    pub left: Stock,
    /// Units in holds afterwards.
    pub held_after: i64,
    /// Units sold, from stock or from holds.
    pub sold: i64,
    /// Units returned by cancelled orders.
    pub returned: i64,
    /// Units moved into holds, minus units returned from holds.
    pub held: i64,
    /// Whether the product is on sale. Units can also be returned to a retired product.
    pub on_sale: bool,
}
