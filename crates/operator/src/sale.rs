//! `FlashSale`: somebody says when a sale is, and the capacity is there before it.
//!
//! What lives here: the custom resource (`resource`); what follows from it and the time
//! without asking anybody: where a sale stands (`timeline`), which minimum an autoscaler gets
//! (`minimum`), what its status says (`status`); the autoscalers (`autoscaler`), the
//! database in which sales are written down (`book`) and the events (`events`) as they are; and
//! the rounds that bring them together (`controller`). What must not: a clock. The time is always an argument, but for the
//! loop that asks the database for it.
//!
//! Orders do not need any of this to be alive: the database has the sale, and the API enforces it.

pub mod autoscaler;
pub mod book;
pub mod controller;
mod events;
pub mod minimum;
pub mod resource;
pub mod status;
pub mod timeline;

pub use autoscaler::AutoscalerRef;
pub use book::Book;
pub use controller::{Controller, SaleSettings};
