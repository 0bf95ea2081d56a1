//! Connections, and the handling of every request.
//!
//! | file | subject |
//! |---|---|
//! | `listener` | accepts connections, limits their number and closes them gracefully |
//! | `log_limit` | limits log lines that clients can cause |
//! | `open_connections` | selects connections that are closed to make room |
//! | `connection` | one connection: its bytes, its deadlines, and requests that are refused before routing |
//! | `client` | the address of a client, and the number of connections of an address |
//! | `open_files` | the number of connections that the limit of open files allows |
//! | `charged` | a large answer, which is charged to the budget until it is sent |
//! | `service` | one request: its id, its trace, its time limit, panics, problems, metrics |
//! | `expected` | refuses parameters and bodies that the endpoint does not have |
//! | `own_site` | refuses web pages of other sites if requests need no key |
//! | `cors` | the rules for web pages of other origins |
//! | `protection` | security headers for browsers |
//! | `route` | the route of a path, and the access that it needs |
//! | `metrics` | requests by route, method and status |
//! | `request_id` | the id of a request |
//! | `request_trace` | the span of a request, if it has a trace |

mod charged;
mod client;
mod connection;
mod cors;
mod expected;
mod listener;
mod log_limit;
mod metrics;
mod open_connections;
mod open_files;
mod own_site;
mod protection;
mod request_id;
mod request_trace;
mod route;
mod service;

pub use client::{ClientAddresses, Peer, Proxies};
pub use connection::Patience;
pub(crate) use connection::read_request;
pub use cors::cors;
pub use listener::{Listener, ListenerLimits};
pub use metrics::HttpMetrics;
pub use open_files::{Fit, TooFewFiles, fit_connections};
pub use own_site::{HostName, OwnSite};
pub use request_id::{RequestId, RequestIds};
pub use route::Route;
pub use service::{Service, ServiceSettings};
