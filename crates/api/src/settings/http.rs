//! The settings of connections and requests.

use std::time::Duration;

use clap::Args;
use holdfast_telemetry::settings::{MustBe, Together, at_most, milliseconds, whole};

use crate::{body::BodyLimits, byte_budget::ByteBudget, http::Patience};

/// Connections and requests.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Connections and requests")]
pub struct HttpSettings {
    /// Threads that serve requests; if not set, half the number of processors. One thread serves tens of
    /// thousands of orders per second, and a lane is faster when it does not have to wake another thread
    /// (1 to 1024)
    #[arg(long, env = "HOLDFAST_THREADS", value_parser = whole(1..=1024_usize))]
    pub threads: Option<usize>,
    /// The most open connections. A further one replaces the connection that has waited longest for its
    /// client; if there is none to replace, it gets 503. Lowered to what the limit of open files allows
    /// (1 to 1000000)
    #[arg(long, env = "HOLDFAST_MAX_CONNECTIONS", default_value = "10000", value_parser = whole(1..=1_000_000_usize))]
    pub max_connections: usize,
    /// The most connections of one client address, or concurrent requests if they come through a proxy in
    /// `HOLDFAST_TRUSTED_PROXIES`; further ones get 429. 0 means no limit (0 to 1000000)
    #[arg(long, env = "HOLDFAST_MAX_CONNECTIONS_PER_ADDRESS", default_value = "0", value_parser = whole(0..=1_000_000_usize))]
    pub max_connections_per_address: usize,
    /// The largest head of a request (request line and headers), in bytes (1024 to 65536)
    #[arg(long, env = "HOLDFAST_MAX_HEADER_BYTES", default_value = "16384", value_parser = whole(1024..=65_536_usize))]
    pub max_header_bytes: usize,
    /// The largest body of a request, in bytes (1024 to 67108864)
    #[arg(long, env = "HOLDFAST_MAX_BODY_BYTES", default_value = "1048576", value_parser = whole(1024..=67_108_864_usize))]
    pub max_body_bytes: usize,
    /// The memory for requests that have not been answered, of all connections together, in bytes;
    /// requests that do not fit get 503. A small part of each request is not counted (1048576 to
    /// 68719476736)
    #[arg(long, env = "HOLDFAST_REQUEST_BUFFER_BYTES", default_value = "67108864", value_parser = whole(1_048_576..=68_719_476_736_usize))]
    pub request_buffer_bytes: usize,
    /// The memory for answers that clients have not read yet, of all connections together, in bytes; a
    /// large answer that does not fit is replaced by 503 (1048576 to 68719476736)
    #[arg(long, env = "HOLDFAST_ANSWER_BUFFER_BYTES", default_value = "67108864", value_parser = whole(1_048_576..=68_719_476_736_usize))]
    pub answer_buffer_bytes: usize,
    /// The longest wait for the headers of a request, from its first byte, in milliseconds (100 to
    /// 3600000)
    #[arg(long = "header-timeout-ms", env = "HOLDFAST_HEADER_TIMEOUT_MS", default_value = "10000", value_parser = milliseconds(100..=3_600_000))]
    pub header_timeout: Duration,
    /// How long a connection is kept without a request, in milliseconds (100 to 3600000)
    #[arg(long = "idle-timeout-ms", env = "HOLDFAST_IDLE_TIMEOUT_MS", default_value = "75000", value_parser = milliseconds(100..=3_600_000))]
    pub idle_timeout: Duration,
    /// The longest time for a body to arrive, in milliseconds (100 to 600000)
    #[arg(long = "body-timeout-ms", env = "HOLDFAST_BODY_TIMEOUT_MS", default_value = "10000", value_parser = milliseconds(100..=600_000))]
    pub body_timeout: Duration,
    /// How long a client may stop reading its answer before its connection is closed, in milliseconds
    /// (100 to 600000)
    #[arg(long = "write-timeout-ms", env = "HOLDFAST_WRITE_TIMEOUT_MS", default_value = "10000", value_parser = milliseconds(100..=600_000))]
    pub write_timeout: Duration,
    /// The lowest rate at which a client may send a body or read an answer, in bytes per second, on average
    /// after the first seconds; 0 means no limit (0 to 1000000)
    #[arg(long, env = "HOLDFAST_MIN_BYTES_PER_SECOND", default_value = "1024", value_parser = whole(0..=1_000_000_u64))]
    pub min_bytes_per_second: u64,
    /// The longest time for a request before it gets 504, in milliseconds (100 to 600000)
    #[arg(long = "request-timeout-ms", env = "HOLDFAST_REQUEST_TIMEOUT_MS", default_value = "30000", value_parser = milliseconds(100..=600_000))]
    pub request_timeout: Duration,
    /// How long the database may be unavailable before /readyz fails, in milliseconds; 0 means that
    /// /readyz never fails for this reason (0 to 3600000)
    #[arg(long = "unready-after-ms", env = "HOLDFAST_UNREADY_AFTER_MS", default_value = "10000", value_parser = milliseconds(0..=3_600_000))]
    pub unready_after: Duration,
    /// At shutdown: how long connections are still accepted after /readyz fails, so that load balancers
    /// notice, in milliseconds (0 to 120000)
    #[arg(long = "drain-delay-ms", env = "HOLDFAST_DRAIN_DELAY_MS", default_value = "500", value_parser = milliseconds(0..=120_000))]
    pub drain_delay: Duration,
    /// At shutdown: how long requests in progress may still take, in milliseconds (0 to 600000)
    #[arg(long = "shutdown-timeout-ms", env = "HOLDFAST_SHUTDOWN_TIMEOUT_MS", default_value = "20000", value_parser = milliseconds(0..=600_000))]
    pub shutdown_timeout: Duration,
}

impl Together for HttpSettings {
    fn check(&self) -> Result<(), MustBe> {
        at_most(
            ("HOLDFAST_MAX_CONNECTIONS_PER_ADDRESS", self.max_connections_per_address),
            ("HOLDFAST_MAX_CONNECTIONS", self.max_connections),
        )?;
        at_most(
            ("HOLDFAST_MAX_BODY_BYTES", self.max_body_bytes),
            ("HOLDFAST_REQUEST_BUFFER_BYTES", self.request_buffer_bytes),
        )
    }
}

impl HttpSettings {
    /// The threads that serve requests, at least one.
    pub fn threads(&self) -> usize {
        let half = || std::thread::available_parallelism().map_or(1, |all| all.get().div_ceil(2));
        self.threads.unwrap_or_else(half)
    }

    /// How slow a client may be.
    pub fn patience(&self) -> Patience {
        Patience {
            header: self.header_timeout,
            idle: self.idle_timeout,
            write: self.write_timeout,
            bytes_per_second: self.min_bytes_per_second,
        }
    }

    /// The limits of bodies, which are charged to a budget.
    pub fn body_limits(&self, budget: &'static ByteBudget) -> BodyLimits {
        BodyLimits {
            bytes: self.max_body_bytes,
            time: self.body_timeout,
            bytes_per_second: self.min_bytes_per_second,
            budget,
        }
    }
}
