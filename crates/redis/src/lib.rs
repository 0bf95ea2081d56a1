//! How programs reach Redis: its address, and connections to the server that takes writes.
//!
//! | module or item | subject |
//! |---|---|
//! | [`RedisUrl`] (`url`) | the setting `REDIS_URL` |
//! | [`RedisCa`] (`ca`) | the setting `HOLDFAST_REDIS_CA_FILE` |
//! | [`RedisServers`] (`servers`) | makes connections, each within a time limit |
//! | [`SharedConnection`] (`shared`) | one connection for many callers, which is made again when it fails |
//! | `leave` | after which errors a connection is useless |
//!
//! The cache, the queue and the rate limits use this crate. It knows none of their keys.

mod ca;
mod leave;
mod servers;
mod shared;
mod url;

pub use ca::RedisCa;
pub use leave::must_leave;
pub use servers::{ConnectionLimits, RedisServers, ServerConnection};
pub use shared::SharedConnection;
pub use url::RedisUrl;
