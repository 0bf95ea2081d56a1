//! The store against a real PostgreSQL. Each test has a database of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods)] // what a test reads, it has made

mod admission;
mod archive;
mod connections;
mod dead_letters;
mod dropped;
mod durable;
mod fixture;
mod folded;
mod fulfilment;
mod ledger;
mod lists;
mod locked_orders;
mod metadata;
mod migrations;
mod order_bytes;
mod outcome;
mod plans;
mod pooler;
mod products;
mod queries;
mod read_only;
mod replicated;
mod sales;
mod schema;
mod several_servers;
mod sweep;
mod unfinished;
