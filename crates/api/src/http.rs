//! Connections, and what happens around every request.
//!
//! | file | subject |
//! |---|---|
//! | `listener` | accepting connections, their number and their graceful end |
//! | `open_connections` | which connections make room for others |
//! | `connection` | one connection: its bytes, its deadlines, what is refused before a route sees it |
//! | `client` | who a connection is from, and how many connections an address has |
//! | `open_files` | how many connections the limit of open files allows |
//! | `charged` | a large answer, charged until it is sent |
//! | `service` | one request: its id, its trace, its time limit, panics, problems, metrics |
//! | `expected` | what a request brings that its endpoint does not take |
//! | `own_site` | what web pages may do where nobody is asked for a key |
//! | `cors` | what web pages of other origins may do |
//! | `public_base` | the address by which clients reach the API |
//! | `protection` | headers that keep a browser in bounds |
//! | `route` | which route a path belongs to, and what access it needs |
//! | `metrics` | requests by route, method and status |
//! | `request_id` | the id of a request, taken or made |
//! | `request_trace` | the span of a request, if it has a trace |

mod charged;
mod client;
mod connection;
mod cors;
mod expected;
mod listener;
mod metrics;
mod open_connections;
mod open_files;
mod own_site;
mod protection;
mod public_base;
mod request_id;
mod request_trace;
mod route;
mod service;

pub use client::{Client, ClientAddresses, Proxies};
pub use connection::Patience;
pub(crate) use connection::read_request;
pub use cors::cors;
pub(crate) use expected::unknown as unknown_parameter;
pub use listener::{ConnectionLimits, Listener};
pub use metrics::HttpMetrics;
pub use open_files::{Fit, TooFewFiles, fit_connections};
pub use own_site::{HostName, OwnSite};
pub use public_base::PublicBase;
pub use request_id::{RequestId, RequestIds};
pub use route::Route;
pub use service::{Service, ServiceSettings};
