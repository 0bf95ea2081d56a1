//! The rules of a shop, without I/O: products, orders, money, quantities, and how stock is given
//! out to the orders of a batch.
//!
//! What lives here: types whose constructors refuse what must never exist ([`Money`], [`Quantity`],
//! [`Stock`], [`ProductName`]), the life of an order ([`OrderStatus`]) and the allocation of stock
//! ([`allocate`]). Everything is pure and can be tested by property.
//!
//! What must not: SQL, HTTP, Redis, clocks, randomness. A caller hands those in.

mod allocation;
mod decimal;
mod id;
mod money;
mod order;
mod product;
mod quantity;

pub use allocation::{Allocation, Available, Demand, Shortfall, StockChange, allocate};
pub use decimal::parse_integer;
pub use id::{OrderId, ProductId};
pub use money::{MAX_PRICE_MINOR, Money};
pub use order::{Order, OrderStatus, UnknownStatus};
pub use product::{
    Description, MAX_DESCRIPTION_CHARS, MAX_NAME_CHARS, NewProduct, Product, ProductName,
    ProductPatch,
};
pub use quantity::{MAX_STOCK, Quantity, Stock};

/// Why a value was refused: one sentence for the person who sent it, without the field's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub std::borrow::Cow<'static, str>);

impl From<&'static str> for Invalid {
    fn from(reason: &'static str) -> Self {
        Self(reason.into())
    }
}

impl From<String> for Invalid {
    fn from(reason: String) -> Self {
        Self(reason.into())
    }
}
