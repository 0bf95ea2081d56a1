//! The HTTP API of Holdfast.
//!
//! What lives here: the settings and subcommands ([`cli`]), starting and stopping
//! ([`serve`](mod@serve)), connections and what happens around every request ([`http`]), what an endpoint is
//! ([`endpoint`]) and the endpoints, one per file ([`routes`]), the requests that they read ([`body`], [`request`]),
//! pages of lists ([`cursor`]), the page for operators ([`console`]), answers that tell what went wrong ([`problem`]), and the document that is made of all
//! that ([`openapi`]).
//!
//! What must not: SQL, Redis commands, rules of the shop, and how orders get their stock (`holdfast_admission`).
#![cfg_attr(test, allow(clippy::disallowed_methods))] // what a test reads, it has made

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
