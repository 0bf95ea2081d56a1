//! The real binary with real PostgreSQL and Redis servers, as clients and
//! operators use it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
#![allow(clippy::disallowed_methods)] // tests index values that they have created

mod access;
mod archive;
mod bad_input;
mod browser;
mod cancel;
mod client;
mod command_line;
mod concurrency;
mod conditional;
mod console;
mod contract;
mod customers;
mod dead_letters;
mod documents;
mod faults;
mod flood;
mod hang_ups;
mod holds;
mod intruder;
mod keys;
mod lines;
mod listener;
mod lists;
mod locked_rows;
mod lost_orders;
mod making_room;
mod malformed;
mod manners;
mod model;
mod observability;
mod oidc;
mod openapi;
mod own_site;
mod pages;
mod pooled_failover;
mod process;
mod products;
mod protocol;
mod read_only;
mod read_replicas;
mod reference;
mod replicated;
mod sales;
mod server;
mod staleness;
mod standby;
mod stored_json;
mod tls;
