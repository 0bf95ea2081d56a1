//! Connections, and what happens around every request.
//!
//! | file | subject |
//! |---|---|
//! | `listener` | accepting connections, their limits and their graceful end |
//! | `service` | one request: its id, its trace, its time limit, panics, problems, metrics |
//! | `cors` | what web pages of other origins may do |
//! | `protection` | headers that keep a browser in bounds |
//! | `route` | which route a path belongs to, for the metrics' labels |
//! | `metrics` | requests by route, method and status |
//! | `request_id` | the id of a request, taken or made |
//! | `request_trace` | the span of a request, if it has a trace |

mod cors;
mod listener;
mod metrics;
mod protection;
mod request_id;
mod request_trace;
mod route;
mod service;

pub use cors::cors;
pub use listener::{ConnectionLimits, Listener};
pub use metrics::HttpMetrics;
pub use request_id::{RequestId, RequestIds};
pub use route::{Route, Surface};
pub use service::{Service, ServiceSettings};
