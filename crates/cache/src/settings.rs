//! Settings and their defaults.

use std::{sync::Arc, time::Duration};

/// Start from [`CacheSettings::new`] and change what differs.
#[derive(Clone, Debug)]
pub struct CacheSettings {
    /// For example `redis://127.0.0.1:6379/0`.
    pub redis_url: String,
    /// With `rediss://`: the CA certificates (PEM) that verify the server; `None`: those of the system.
    pub redis_ca: Option<Arc<[u8]>>,
    /// How long Redis remembers a product, and how long a fence lasts. Default 5 min.
    pub ttl: Duration,
    /// How old an answer may be: it was read from the database, or confirmed there, within this time, whatever happens to Redis
    /// and to the messages of other replicas. Default 2 s.
    pub max_age: Duration,
    /// How long a reader may take from its miss to its fill. It is short, because a read of an id that does not exist
    /// occupies a key in Redis for this long. Default 5 s.
    pub lease: Duration,
    /// The timeout of one call to Redis. Default 50 ms.
    pub op_timeout: Duration,
    /// The timeout of connecting to Redis in the background. Default 1 s.
    pub connect_timeout: Duration,
    /// How often a failed Redis is tried again in the background. Default 100 ms.
    pub retry_interval: Duration,
    /// How long Redis is not read after it is back, so that every replica can deliver the invalidations that it owes. Should be
    /// several times `retry_interval`. Default 1 s.
    pub quarantine: Duration,
    /// How often the subscription is proved to work. Default 250 ms.
    pub tick: Duration,
    /// How long the process's memory may answer after the last proof. Zero disables the memory. Default 1 s.
    pub armed_for: Duration,
    /// The size of the process's memory, including bookkeeping. Default 32 MiB.
    pub l1_bytes: u64,
    /// How many undelivered invalidations are kept. If there are more, all products count as changed. Default 65,536.
    pub owed_limit: usize,
    /// Whether Redis is used only after [`Cache::of_database`](crate::Cache::of_database) was called. Default `false`.
    pub waits_for_database: bool,
}

impl CacheSettings {
    /// The defaults, for a Redis at this address.
    pub fn new(redis_url: impl Into<String>) -> Self {
        Self {
            redis_url: redis_url.into(),
            redis_ca: None,
            ttl: Duration::from_mins(5),
            max_age: Duration::from_secs(2),
            lease: Duration::from_secs(5),
            op_timeout: Duration::from_millis(50),
            connect_timeout: Duration::from_secs(1),
            retry_interval: Duration::from_millis(100),
            quarantine: Duration::from_secs(1),
            tick: Duration::from_millis(250),
            armed_for: Duration::from_secs(1),
            l1_bytes: 32 << 20,
            owed_limit: 65_536,
            waits_for_database: false,
        }
    }
}
