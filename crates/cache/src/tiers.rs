//! Both tiers, and how a change reaches them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::mpsc;

use crate::entry::{Entry, StockChange};
use crate::l1::L1;
use crate::metrics::{CacheMetrics, Gauges};
use crate::redis_connection::RedisConnection;
use crate::writer::{self, WriterMessage};

pub(crate) struct Tiers<E> {
    pub(crate) l1: Arc<L1<E>>,
    pub(crate) redis: Arc<RedisConnection>,
    pub(crate) metrics: Arc<CacheMetrics>,
    messages: mpsc::Sender<WriterMessage>,
    /// The number of times that the products were found to be in another database.
    database: AtomicU64,
}

impl<E: Entry> Tiers<E> {
    /// The receiver is for the [`writer`].
    pub(crate) fn new(
        l1: Arc<L1<E>>,
        redis: Arc<RedisConnection>,
        metrics: Arc<CacheMetrics>,
    ) -> (Arc<Self>, mpsc::Receiver<WriterMessage>) {
        let (messages, receiver) = mpsc::channel(writer::QUEUE);
        (Arc::new(Self { l1, redis, metrics, messages, database: AtomicU64::new(0) }), receiver)
    }

    /// The number of the current database. It changes with each [`change_database`](Self::change_database).
    pub(crate) fn database(&self) -> u64 {
        self.database.load(Ordering::Acquire)
    }

    /// Starts over, because the products are now in another database.
    pub(crate) fn change_database(&self) {
        // This comes first, so that commits to the previous database do not count any more.
        self.database.fetch_add(1, Ordering::AcqRel);
        self.l1.reset();
    }

    /// See [`Cache::committed`](crate::Cache::committed).
    pub(crate) fn committed(&self, changes: &[StockChange]) {
        for change in changes {
            self.l1.restock(change);
        }
        if !changes.is_empty() {
            self.send(WriterMessage::Stock(changes.to_vec()));
        }
    }

    /// See [`Cache::changed`](crate::Cache::changed).
    pub(crate) fn changed(&self, changes: &[(i64, i64)]) {
        for (id, version) in changes {
            self.l1.change(*id, *version);
        }
        if !changes.is_empty() {
            self.send(WriterMessage::Drop(changes.to_vec()));
        }
    }

    pub(crate) fn send(&self, message: WriterMessage) {
        if self.messages.try_send(message).is_err() {
            self.metrics.dropped.inc();
        }
    }

    pub(crate) fn gauges(&self) -> Gauges {
        Gauges {
            armed: self.l1.is_armed(Instant::now()),
            redis_up: self.redis.is_up(),
            process_entries: self.l1.len(),
            process_bytes: self.l1.bytes(),
            owed: self.redis.health.owed(),
        }
    }
}
