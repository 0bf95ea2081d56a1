//! Products.

pub mod adjust_stock;
pub mod create;
pub mod delete;
pub mod get;
pub mod list;
pub mod stock_ledger;
pub mod update;
