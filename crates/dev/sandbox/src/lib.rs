//! Private PostgreSQL, Redis and Prometheus servers, a Kubernetes control plane (with the feature
//! `kubernetes`), and the programs of this workspace as processes, for `make run`, tests and benchmarks.
//!
//! This crate finds and starts servers, manages their folders and ports, and injects faults (kill, pause, restart).
//! Every process that it starts ends with the process that started it, even if that is killed with SIGKILL. The next
//! start removes the folders that remain. The crate contains nothing that is shipped, knows nothing of Holdfast's
//! tables and Redis keys, and has no mocks.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use holdfast_sandbox::{Redis, RedisOptions, shared_postgres};
//! let database_url = shared_postgres().await?.create_database().await?; // a new, empty database
//! let redis = Redis::start(RedisOptions::default()).await?; // ends when dropped
//! redis.pause()?; // hangs, like a stalled host
//! redis.resume()?;
//! # Ok(()) }
//! ```
#![allow(clippy::disallowed_methods)] // never shipped, and reads what its own programs wrote

mod child;
mod clock;
mod disk;
mod folder;
mod http;
mod initdb;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod metrics_page;
mod mounted;
mod patroni;
mod pgbouncer;
mod port;
mod postgres;
mod process;
mod program;
mod programs;
mod prometheus;
mod proxy;
mod redis;
mod redis_cluster;
mod redis_sentinel;
mod shared;
mod until;

pub use clock::Clock;
pub use disk::Disk;
pub use folder::{Keep, sweep};
pub use http::{HttpAnswer, http_get, http_post_json, http_post_json_as, http_put_json};
#[cfg(feature = "kubernetes")]
pub use kubernetes::{
    CertificatePair, Kubernetes, KubernetesAssets, MissingAssets, SandboxAuthority,
};
pub use metrics_page::{find_metric, metric};
pub use patroni::{PATRONI_TTL, Patroni, PatroniMode};
pub use pgbouncer::PgBouncer;
pub use port::Port;
pub use postgres::{Postgres, PostgresOptions};
pub use process::{Process, ProcessOptions, Ready, workspace_binary};
pub use program::{Program, migrate};
pub use programs::{PostgresVersion, on_path};
pub use prometheus::{Prometheus, PrometheusOptions, Scrape};
pub use proxy::Proxy;
pub use redis::{Redis, RedisOptions};
pub use redis_cluster::RedisCluster;
pub use redis_sentinel::RedisSentinels;
pub use shared::shared_postgres;
pub use until::{PATIENCE, Progress, until, until_or};
