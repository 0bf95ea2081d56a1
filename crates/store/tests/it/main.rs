//! The store with a real PostgreSQL. Each test has its own database.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods)] // tests index values that they have created

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
mod read_replicas;
mod replicated;
mod sales;
mod schema;
mod several_servers;
mod sweep;
mod unfinished;
