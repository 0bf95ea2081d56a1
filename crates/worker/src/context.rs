//! What all tasks of a worker share.

use std::{sync::Arc, time::Duration};

use holdfast_queue::Queue;
use holdfast_store::Store;
use tokio::sync::{Notify, Semaphore};

use crate::{
    backoff::Backoff, health::WorkerHealth, in_flight::ConcurrencyLimit, metrics::WorkerMetrics,
};

pub(crate) struct WorkerContext {
    pub store: Store,
    pub queue: Queue,
    pub limit: ConcurrencyLimit,
    pub health: WorkerHealth,
    pub metrics: WorkerMetrics,
    /// The bytes of orders that may be in memory.
    pub memory: Arc<Semaphore>,
    pub settings: JobSettings,
    /// Redis may have lost orders: see `refill.rs`.
    pub redis_is_new: Notify,
}

pub(crate) struct JobSettings {
    pub batch: usize,
    pub lease: Duration,
    pub max_attempts: i32,
    pub retry_for: Duration,
    pub backoff: Backoff,
    pub sweep_interval: Duration,
    pub idempotency_age: Duration,
    pub sweep_after: Duration,
}
