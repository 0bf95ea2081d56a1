//! The HTTP API of Holdfast.
//!
//! This crate contains the settings and subcommands ([`cli`]), start and shutdown ([`serve`](mod@serve)), connections
//! and the handling of every request ([`http`]), the declaration of endpoints ([`endpoint`]) and the endpoints, one per
//! file ([`routes`]), the requests that they read ([`body`], [`request`]), pages of lists ([`cursor`]), the page for
//! operators ([`console`]), errors ([`problem`]), and the OpenAPI document ([`openapi`]).
//!
//! It contains no SQL, no Redis commands, no business rules, and not the allocation of stock (`holdfast_admission`).
#![cfg_attr(test, allow(clippy::disallowed_methods))] // tests index values that they have created

pub mod access;
pub mod api_keys;
pub mod app;
pub mod body;
mod byte_budget;
pub mod cli;
pub mod console;
pub mod cursor;
#[doc(hidden)]
pub mod detached;
mod docs;
pub mod encode;
pub mod endpoint;
pub mod etag;
pub mod holds;
pub mod http;
pub mod idempotency;
pub mod limits;
mod metrics_page;
pub mod openapi;
pub mod orders;
pub mod page_memory;
pub mod problem;
pub mod products;
pub mod public_base;
pub mod request;
mod router;
pub mod routes;
pub mod sales;
pub mod serve;
pub mod settings;
mod shown_time;
pub mod stock_ledger;
