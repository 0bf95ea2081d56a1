//! Settings and their defaults.

use std::{sync::Arc, time::Duration};

/// How a [`Cache`](crate::Cache) behaves. Start from [`CacheSettings::new`] and change what differs.
#[derive(Clone, Debug)]
pub struct CacheSettings {
    /// Where Redis is, e.g. `redis://127.0.0.1:6379/0`.
    pub redis_url: String,
    /// With `rediss://`: certificates (PEM) of the authorities by which the server is known.
    /// `None`: those of the system.
    pub redis_ca: Option<Arc<[u8]>>,
    /// How long Redis remembers a product, and how long a fence lasts. Default 5 min.
    pub ttl: Duration,
    /// How old an answer may be, by the database: what is served was read there, or found unchanged there, no longer
    /// ago than this. Holds whatever becomes of Redis, and of the messages of other replicas. Default 2 s.
    pub max_age: Duration,
    /// How long a reader may take from its miss to its fill. Default 5 s. Kept short because a read
    /// of an id that does not exist costs a key in Redis for this long.
    pub lease: Duration,
    /// The longest that one call may wait for Redis. Default 50 ms.
    pub op_timeout: Duration,
    /// The longest that connecting to Redis may take, in the background. Default 1 s.
    pub connect_timeout: Duration,
    /// How often a failed Redis is tried again, in the background. Default 100 ms.
    pub retry_interval: Duration,
    /// How long after Redis came back its contents are not yet read: every replica needs the time
    /// to hand in the invalidations that it could not deliver. Default 1 s; keep it at several
    /// times `retry_interval`.
    pub quarantine: Duration,
    /// How often the subscription is proved alive. Default 250 ms.
    pub tick: Duration,
    /// How long after the last proof the process's memory may still answer. Default 1 s. Zero does
    /// without the process's memory.
    pub armed_for: Duration,
    /// The bound on the process's memory, in bytes of body and bookkeeping. Default 32 MiB.
    pub l1_bytes: u64,
    /// How many undelivered invalidations are remembered one by one; beyond it all products count
    /// as changed. Default 65,536.
    pub owed_limit: usize,
    /// Whether Redis is used only once [`Cache::of_database`](crate::Cache::of_database) has said in which
    /// database the products are. Default `false`.
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
