//! A queue: reads its Redis, and the database of its release.

use std::{collections::BTreeMap, time::Duration};

use holdfast_queue::{Depth, Queue, QueueError, QueueSettings};
use holdfast_redis::RedisCa;
use holdfast_store::Store;
use parking_lot::Mutex;

use super::QueueEntry;

/// The settings of connections to Redis.
#[derive(Clone, Debug)]
pub struct RedisAccess {
    /// The longest wait for an answer.
    pub timeout: Duration,
    /// With `rediss://`: the CA certificates that verify the server; `None`: those of the system.
    pub redis_ca: Option<RedisCa>,
}

/// The most unfinished orders that are counted in the database while Redis has all of them.
const COUNTED_MAX: u32 = 50_000;

/// A queue whose depth is served.
pub struct ServedQueue {
    listed: QueueEntry,
    /// The source of its unfinished orders, if there is one.
    store: Option<Store>,
    reach: RedisAccess,
    /// `None` before the first request, and after one without an answer.
    connection: Mutex<Option<Queue>>,
}

/// Why a value is unknown. It is refused, never estimated, and never 0.
#[derive(Debug, thiserror::Error)]
pub enum QueueUnavailable {
    #[error("the address of its Redis is not known")]
    Settings,
    #[error("the queue could not be counted")]
    Queue(#[from] QueueError),
}

impl QueueUnavailable {
    /// A sentence for the caller that says what to check, without addresses.
    pub fn sentence(&self) -> &'static str {
        match self {
            Self::Settings => "the operator has no address of its Redis",
            Self::Queue(QueueError::Timeout) => "Redis did not answer in time",
            Self::Queue(QueueError::NoGroup) => {
                "its consumer group does not exist: Redis was emptied, or no worker has run yet"
            }
            Self::Queue(QueueError::Incomplete) => {
                "Redis has lost orders, and the workers have not published all of them again"
            }
            Self::Queue(QueueError::Url(_) | QueueError::Redis(_)) => {
                "Redis cannot be reached or refused the command"
            }
        }
    }

    /// The value of the label `reason`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Settings | Self::Queue(QueueError::Url(_)) => "settings",
            Self::Queue(QueueError::Timeout) => "timeout",
            Self::Queue(QueueError::NoGroup) => "no_group",
            Self::Queue(QueueError::Incomplete) => "incomplete",
            Self::Queue(QueueError::Redis(_)) => "redis",
        }
    }
}

impl ServedQueue {
    pub(super) fn new(listed: QueueEntry, reach: RedisAccess, store: Option<Store>) -> Self {
        Self { listed, store, reach, connection: Mutex::new(None) }
    }

    pub(super) fn is(&self, other: &QueueEntry) -> bool {
        let url =
            |listed: &QueueEntry| listed.redis_url.as_ref().map(|url| url.as_str().to_owned());
        self.listed.namespace == other.namespace
            && self.listed.labels == other.labels
            && url(&self.listed) == url(other)
    }

    /// The namespace of its HPA.
    pub fn namespace(&self) -> &str {
        &self.listed.namespace
    }

    /// Its labels, for selectors.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.listed.labels
    }

    /// The value of a label; empty if the queue does not have it.
    pub fn label(&self, key: &str) -> &str {
        self.listed.labels.get(key).map_or("", String::as_str)
    }

    /// The number of unfinished orders: waiting, in flight, or waiting for another attempt. It comes from the database
    /// if that is configured and answers. A large backlog is expensive to count, so it comes from Redis, as it does
    /// without a database. If Redis may have lost orders, its value is not used. If Redis does not answer, the number
    /// is not known, because the workers cannot work either. Takes at most twice the timeout. Safe to cancel.
    ///
    /// # Errors
    /// It is not known.
    pub async fn depth(&self) -> Result<u64, QueueUnavailable> {
        let queue = self.queue()?;
        let (depth, unfinished) =
            tokio::join!(queue.whole_depth(), self.unfinished(Some(COUNTED_MAX)));
        let depth = self.heard(depth).map(Depth::total);
        let lost = match &depth {
            Ok(_) => false,
            Err(QueueUnavailable::Queue(QueueError::NoGroup | QueueError::Incomplete)) => true,
            Err(_) => return depth,
        };
        match unfinished {
            None => depth,
            Some(unfinished) if unfinished < u64::from(COUNTED_MAX) => Ok(unfinished),
            Some(_) if lost => match self.unfinished(None).await {
                Some(unfinished) => Ok(unfinished),
                None => depth,
            },
            Some(unfinished) => depth.map(|depth| depth.max(unfinished)),
        }
    }

    /// The count of the database, if there is one and it answers in time.
    async fn unfinished(&self, max: Option<u32>) -> Option<u64> {
        let counting = self.store.as_ref()?.count_unfinished(max);
        match tokio::time::timeout(self.reach.timeout, counting).await {
            Ok(Ok(unfinished)) => Some(unfinished),
            Ok(Err(error)) => {
                let error = holdfast_telemetry::Chain(&error);
                tracing::debug!(%error, "the unfinished orders could not be counted");
                None
            }
            Err(_elapsed) => {
                tracing::debug!("the unfinished orders could not be counted in time");
                None
            }
        }
    }

    /// How long the next order has waited; zero if none waits. Takes at most twice the timeout. Safe to cancel.
    ///
    /// # Errors
    /// It is not known.
    pub async fn oldest_age(&self) -> Result<Duration, QueueUnavailable> {
        let queue = self.queue()?;
        // The rest of a queue that has lost orders does not show their age.
        self.heard(queue.whole_depth().await)?;
        self.heard(queue.oldest_waiting().await).map(Option::unwrap_or_default)
    }

    fn queue(&self) -> Result<Queue, QueueUnavailable> {
        let mut connection = self.connection.lock();
        if let Some(queue) = &*connection {
            return Ok(queue.clone());
        }
        let url = self.listed.redis_url.as_ref().ok_or(QueueUnavailable::Settings)?;
        let settings = QueueSettings {
            op_timeout: self.reach.timeout,
            // Some of the queues may use no TLS.
            redis_ca: self.reach.redis_ca.as_ref().filter(|_| url.tls()).map(RedisCa::pem),
            ..QueueSettings::new(url.as_str())
        };
        Ok(connection.insert(Queue::connect(settings)?).clone())
    }

    /// A connection without an answer may be to a host that no longer exists, which TCP would notice only after a
    /// quarter of an hour. The next request opens a new one.
    fn heard<T>(&self, answer: Result<T, QueueError>) -> Result<T, QueueUnavailable> {
        if matches!(answer, Err(QueueError::Timeout)) {
            *self.connection.lock() = None;
        }
        Ok(answer?)
    }
}
