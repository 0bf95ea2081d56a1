//! Connections to Redis: its address, and the server that accepts writes.
//!
//! | module or item | subject |
//! |---|---|
//! | [`RedisUrl`] (`url`) | the setting `REDIS_URL` |
//! | [`RedisCa`] (`ca`) | the setting `HOLDFAST_REDIS_CA_FILE` |
//! | [`RedisServers`] (`servers`) | opens connections, each within a time limit |
//! | `discovery` | finds the primary by asking Sentinels (`sentinel`) or servers of a cluster (`cluster`); `primary` is their answer |
//! | [`ServerInfo`] (`server_info`) | what a server says about itself |
//! | [`SharedConnection`] (`shared`) | one connection for many callers, which is replaced when it fails |
//! | `leave` | the errors after which a connection must be replaced |
//!
//! The cache, the queue and the rate limits use this crate.

mod ca;
mod cluster;
mod discovery;
mod leave;
mod primary;
mod sentinel;
mod server_info;
mod servers;
mod shared;
mod url;

pub use ca::RedisCa;
pub use leave::must_leave;
pub use server_info::ServerInfo;
pub use servers::{ConnectionLimits, RedisServers, ServerAddress, ServerConnection, Subscription};
pub use shared::SharedConnection;
pub use url::RedisUrl;
