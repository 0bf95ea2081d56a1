//! The HTTP side of Holdfast.
//!
//! What lives here: the settings and subcommands ([`cli`]), starting and stopping
//! ([`serve`](mod@serve)), connections and what happens around every request ([`http`]), reading
//! bodies and queries so that each wrong field is named ([`body`], [`query`]), pages of lists
//! ([`cursor`]), answers that tell what went wrong ([`problem`]), and one file per endpoint ([`routes`]).
//!
//! What must not: SQL, Redis commands, rules of the shop, and how orders get their stock (`holdfast_admission`).
#![cfg_attr(test, allow(clippy::disallowed_methods))] // what a test reads, it has made

pub mod access;
pub mod api_keys;
pub mod app;
pub mod body;
pub mod cli;
pub mod cursor;
pub mod dead_letters;
#[doc(hidden)]
pub mod detached;
pub mod etag;
pub mod holds;
pub mod http;
pub mod idempotency;
mod metrics_page;
pub mod new_order;
pub mod openapi;
pub mod orders;
pub mod page_memory;
pub mod problem;
pub mod products;
pub mod query;
// The doc comments of endpoints are their text in the OpenAPI document.
#[allow(clippy::missing_errors_doc)]
pub mod routes;
pub mod sales;
pub mod serve;
pub mod settings;
pub mod stock_ledger;
