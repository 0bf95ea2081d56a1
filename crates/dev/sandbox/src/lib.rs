//! Private PostgreSQL, Redis and Prometheus servers, a Kubernetes control plane (with the feature
//! `kubernetes`), and our own binaries as processes, for `make run`, tests and benchmarks.
//!
//! Here live: finding and starting servers, their folders and ports, and the faults one can
//! inflict on them (kill, pause, restart). Every process started here ends with the process that
//! started it, even when that is killed with -9; folders left behind by such an end are swept by
//! the next start. Must not live here: anything that is shipped, any knowledge of the order
//! system's tables or keys, and mocks of any kind.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use holdfast_sandbox::{Redis, RedisOptions, shared_postgres};
//! let database_url = shared_postgres().await?.create_database().await?; // empty, only ours
//! let redis = Redis::start(RedisOptions::default()).await?; // gone when dropped
//! redis.pause()?; // hangs, as a stalled host does
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
mod pgbouncer;
mod port;
mod postgres;
mod process;
mod program;
mod programs;
mod prometheus;
mod proxy;
mod redis;
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
pub use pgbouncer::PgBouncer;
pub use port::Port;
pub use postgres::{Postgres, PostgresOptions};
pub use process::{Process, ProcessOptions, Ready, workspace_binary};
pub use program::{Program, migrate};
pub use programs::on_path;
pub use prometheus::{Prometheus, PrometheusOptions, Scrape};
pub use proxy::Proxy;
pub use redis::{Redis, RedisOptions};
pub use shared::shared_postgres;
pub use until::{PATIENCE, Progress, until, until_or};
