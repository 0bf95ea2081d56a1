//! How programs reach Redis: its address, and connections to the server that takes writes.
//!
//! | module or item | subject |
//! |---|---|
//! | [`RedisUrl`] (`url`) | the setting `REDIS_URL` |
//! | [`RedisCa`] (`ca`) | the setting `HOLDFAST_REDIS_CA_FILE` |
//! | [`RedisServers`] (`servers`) | makes connections, each within a time limit |
//! | `discovery` | finds the primary by asking several others: Sentinels (`sentinel`), or servers of a cluster (`cluster`); `primary` is their answer |
//! | [`ServerInfo`] (`server_info`) | what a server says about itself |
//! | [`SharedConnection`] (`shared`) | one connection for many callers, which is made again when it fails |
//! | `leave` | after which errors a connection is useless |
//!
//! The cache, the queue and the rate limits use this crate. It knows none of their keys.

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
