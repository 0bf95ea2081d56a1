//! How many requests a caller has sent in this second, counted over all replicas.
//!
//! Each request is counted in this process's memory; the counts are added up in Redis in the background, many callers in
//! one round trip, every [`ThrottleSettings::exchange`]. So no request waits for Redis, and a caller who spreads his
//! requests over several replicas may exceed his limit by what they take in one such interval.
//!
//! While Redis is away each replica enforces the limit by itself: a caller may then send as many times
//! the limit as there are replicas, and nobody is refused because Redis is down.
//!
//! A second is that of this machine's clock; replicas whose clocks differ count the requests at its edges differently.
//!
//! Must not live here: HTTP, and who a caller is.

mod counts;
mod exchange;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use redis::{
    Client, RedisError, RedisResult, TlsCertificates,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

use counts::Counts;

/// How to reach Redis, and how often.
#[derive(Clone, Debug)]
pub struct ThrottleSettings {
    /// Where Redis is, e.g. `redis://127.0.0.1:6379/0`.
    pub redis_url: String,
    /// With `rediss://`: certificates (PEM) of the authorities by which the server is known.
    /// `None`: those of the system.
    pub redis_ca: Option<Arc<[u8]>>,
    /// The longest wait for an answer, and for a connection.
    pub op_timeout: Duration,
    /// How often the counts are added up.
    pub exchange: Duration,
}

/// The address cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("the address of Redis cannot be understood")]
pub struct ThrottleError(#[from] RedisError);

/// What a caller may still do in this second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Whether this request is within the limit.
    pub allowed: bool,
    /// How many a second are.
    pub limit: u32,
    /// How many are left.
    pub left: u32,
}

/// Counts requests. Cheap to clone.
#[derive(Clone)]
pub struct Throttle {
    counts: Arc<Mutex<Counts>>,
}

impl Throttle {
    /// Begins to count. Connects when there is something to add up. Must be called within a tokio runtime, and works for
    /// as long as that lives.
    ///
    /// # Errors
    /// An address that cannot be understood.
    pub fn start(settings: &ThrottleSettings) -> Result<Self, ThrottleError> {
        let counts = Arc::new(Mutex::new(Counts::default()));
        let connection = connection(settings)?;
        tokio::spawn(exchange::run(Arc::clone(&counts), connection, settings.clone()));
        Ok(Self { counts })
    }

    /// Counts a request of `caller`, who may send `limit` a second. Never waits. One beyond the limit is counted too,
    /// but takes nothing from the next second.
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

fn connection(settings: &ThrottleSettings) -> RedisResult<ConnectionManager> {
    let url = settings.redis_url.as_str();
    let client = match &settings.redis_ca {
        Some(ca) => {
            let root_cert = Some(ca.to_vec());
            Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert })?
        }
        None => Client::open(url)?,
    };
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(settings.op_timeout))
        .set_response_timeout(Some(settings.op_timeout))
        .set_number_of_retries(1)
        .set_min_delay(Duration::from_millis(50))
        .set_max_delay(Duration::from_millis(500));
    ConnectionManager::new_lazy_with_config(client, config)
}
