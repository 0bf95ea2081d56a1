//! What is put on the shelf, and what is said of it.

use smallvec::SmallVec;

use crate::{
    CustomerRef, HoldId, HoldStatus, Money, OrderStatus, ProductId, Quantity, Selling, Stock,
};

/// What a locked product row has to give.
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
    /// Whether the product is sold at all; one that was taken out of the shop is not.
    pub on_sale: bool,
    /// What its flash sales say.
    pub selling: Selling,
}

/// The units of a hold, as they lie on the shelf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldUnits {
    /// Of which product.
    pub product_id: ProductId,
    /// How many.
    pub quantity: Quantity,
    /// What one unit cost when the hold was made: the price that an order from it pays.
    pub unit_price: Money,
    /// For whom: an order from it is that customer's.
    pub customer: Option<CustomerRef>,
    /// Where the hold stands. One whose time is over is [`HoldStatus::Expired`], whether or not
    /// somebody has written that down.
    pub status: HoldStatus,
    /// Whether nobody has written down its end: its units are not back in stock nor sold.
    pub kept: bool,
}

/// An order that is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockedOrder {
    /// Where it stands.
    pub status: OrderStatus,
    /// As [`Order::may_be_fulfilled`](crate::Order::may_be_fulfilled).
    pub may_be_fulfilled: bool,
}

/// What a customer has of a product with a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Units in orders that were not cancelled, from stock or from holds.
    pub ordered: i64,
    /// Units in active holds.
    pub held: i64,
}

/// What a demand is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// The order's units.
    Order {
        /// What one unit of each line costs.
        unit_prices: SmallVec<[Money; 1]>,
        /// Whose the order is because its holds are, if it names nobody.
        inherited: Option<CustomerRef>,
    },
    /// The units are held, at this price.
    Hold(Money),
    /// The units are back in stock.
    Returned,
    /// The units of these holds are back in stock, because their time was over.
    Expired(Vec<HoldId>),
}

/// Why a demand gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortfall {
    /// There is no such product, or it is no longer sold.
    UnknownProduct(ProductId),
    /// Fewer units are left than are asked for.
    NotEnough {
        /// Of which product.
        product_id: ProductId,
        /// What was left.
        left: Stock,
    },
    /// There is no such hold.
    UnknownHold(HoldId),
    /// The product's flash sale is not open yet.
    SaleNotOpen {
        /// Of which product.
        product_id: ProductId,
        /// When it opens; `None` if it could be open and is held back.
        starts_at: Option<jiff::Timestamp>,
    },
    /// The product's flash sale is over.
    SaleOver(ProductId),
    /// The customer would get more of the product than its flash sale allows.
    OverLimit {
        /// Of which product.
        product_id: ProductId,
        /// How much one customer gets.
        limit: u32,
        /// How much of it is left for this one.
        left: u32,
    },
    /// The product's flash sale has a limit for each customer, and none was named.
    CustomerNeeded(ProductId),
    /// The hold keeps nothing any more.
    HoldEnded {
        /// Which one.
        hold_id: HoldId,
        /// How it ended.
        status: HoldStatus,
    },
    /// The hold is of another product or another quantity.
    HoldDiffers(HoldId),
    /// One unit costs something else than the customer was told.
    PriceChanged {
        /// Of which product.
        product_id: ProductId,
        /// What one unit costs now; from a hold, what it cost then.
        current: Money,
    },
    /// The hold is for another customer than the order, or than another hold of the order.
    CustomerDiffers(HoldId),
    /// There is no such order.
    UnknownOrder,
    /// The order does not stand any more where the caller has seen it.
    OrderMoved(OrderStatus),
    /// A try of the order may have been taken by the one who fulfils it.
    OrderMayBeFulfilled(OrderStatus),
    /// The shop cannot hold that many units of the product.
    StockFull(ProductId),
}

/// A product that a batch changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StockChange {
    /// Which one.
    pub product_id: ProductId,
    /// The version that its row gets.
    pub version: i64,
    /// What its stock changes by: `returned - sold - held`.
    pub delta: i64,
    /// What is left afterwards.
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
