//! Rate limits: how many requests a caller has sent in the current second, over all replicas.
//!
//! Each request is counted in this process's memory. In the background, the counts are added up in Redis, many callers in one round
//! trip, every [`ThrottleSettings::exchange`]. So no request waits for Redis. A caller that spreads its requests over several
//! replicas may exceed its limit by what the replicas accept within one such interval.
//!
//! While Redis is down, each replica enforces the limit alone: a caller may then send the limit once per replica, and no request is
//! refused because Redis is down.
//!
//! Seconds are those of each machine's clock. Replicas whose clocks differ assign requests at the edges to different seconds.
//!
//! This crate knows nothing about HTTP and about what a caller is.

mod counts;
mod exchange;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use holdfast_redis::{ConnectionLimits, RedisServers, SharedConnection};
use holdfast_telemetry::settings::MustBe;
use parking_lot::Mutex;

use counts::Counts;

/// The least time limit for connecting.
const CONNECT_MIN: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub struct ThrottleSettings {
    /// For example `redis://127.0.0.1:6379/0`.
    pub redis_url: String,
    /// With `rediss://`: the CA certificates (PEM) that verify the server; `None`: those of the system.
    pub redis_ca: Option<Arc<[u8]>>,
    /// The timeout of a call, and of connecting.
    pub op_timeout: Duration,
    /// How often the counts are added up.
    pub exchange: Duration,
}

/// The Redis URL is not valid.
#[derive(Debug, thiserror::Error)]
#[error("the address of Redis {0}")]
pub struct ThrottleError(MustBe);

/// The result of counting a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Whether this request is within the limit.
    pub allowed: bool,
    /// The requests per second.
    pub limit: u32,
    /// The requests that are left in this second.
    pub left: u32,
}

/// Counts requests. Cheap to clone.
#[derive(Clone)]
pub struct Throttle {
    counts: Arc<Mutex<Counts>>,
}

impl Throttle {
    /// Connects when there are counts to add up. Must be called within a tokio runtime, and works until that ends.
    ///
    /// # Errors
    /// The Redis URL is not valid.
    pub fn start(settings: &ThrottleSettings) -> Result<Self, ThrottleError> {
        let counts = Arc::new(Mutex::new(Counts::default()));
        let servers =
            RedisServers::new(&settings.redis_url, settings.redis_ca.as_deref(), exchange::TAG)
                .map_err(ThrottleError)?;
        let limits = ConnectionLimits {
            // Connecting happens in the background, and takes several round trips with Sentinels.
            connect: settings.op_timeout.max(CONNECT_MIN),
            response: settings.op_timeout,
        };
        let tagged = servers.is_cluster();
        let connection = SharedConnection::new(servers, limits);
        tokio::spawn(exchange::run(Arc::clone(&counts), connection, tagged, settings.clone()));
        Ok(Self { counts })
    }

    /// Counts a request of `caller`, whose limit is `limit` requests per second. Never waits. A refused request is counted too, but
    /// does not affect the next second.
    pub fn count(&self, caller: &str, limit: u32) -> Allowance {
        let sent = self.counts.lock().count(caller, second());
        Allowance {
            allowed: sent <= u64::from(limit),
            limit,
            left: u32::try_from(u64::from(limit).saturating_sub(sent)).unwrap_or(limit),
        }
    }
}

fn second() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
