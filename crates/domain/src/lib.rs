//! The rules of a shop, without I/O: products, orders, money, quantities, and how stock is allocated
//! to the requests of a batch.
//!
//! This crate contains types with constructors that refuse invalid values ([`Money`], [`Quantity`],
//! [`Stock`], [`ProductName`]), the states of an order ([`OrderStatus`]) and the allocation of stock
//! ([`StockAllocator`]). Everything is pure, so it has property tests.
//!
//! It contains no SQL, HTTP, Redis, clocks or randomness. Callers pass times and random numbers as
//! arguments.
#![cfg_attr(test, allow(clippy::disallowed_methods))] // tests index values that they have created

mod api_key;
mod customer;
mod decimal;
mod hold;
mod id;
pub mod json;
mod ledger;
mod line;
mod metadata;
mod money;
mod named;
mod operator;
mod order;
mod product;
mod quantity;
mod sale;
mod stock_allocator;
mod text;
pub mod time;

pub use api_key::{KeyName, MAX_KEY_NAME_CHARS};
pub use customer::{CustomerRef, MAX_CUSTOMER_REF_CHARS};
pub use decimal::parse_integer;
pub use hold::{Hold, HoldStatus};
pub use id::{HoldId, OrderId, ProductId};
pub use ledger::{LedgerEntry, LedgerReason, MAX_STOCK_NOTE_CHARS, StockNote};
pub use line::{Lines, RequestedLine};
pub use metadata::{MAX_METADATA_BYTES, Metadata};
pub use money::{MAX_PRICE_MINOR, Money};
pub use operator::{MAX_OPERATOR_CHARS, MAX_OPERATOR_NOTE_CHARS, OperatorName, OperatorNote};
pub use order::{Order, OrderLine, OrderStatus, Transition};
pub use product::{
    MAX_DESCRIPTION_CHARS, MAX_NAME_CHARS, Product, ProductChanges, ProductDescription,
    ProductDraft, ProductName, StockEdit,
};
pub use quantity::{MAX_STOCK, Quantity, Stock};
pub use sale::{
    CustomerLimit, MAX_PER_CUSTOMER, MAX_SALE_NAME_CHARS, MAX_SALE_PRODUCTS, Sale, SaleName,
    SaleWindow, Selling,
};
pub use stock_allocator::{
    AllocatedLine, AllocatedLines, AllocatedOrder, Available, CustomerTotals, HeldUnits,
    LockedOrder, ProductChange, Shortfall, StockAllocator,
};

/// Why a value was refused: the rest of a sentence that begins with the field's name, for the sender
/// of the value.
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
