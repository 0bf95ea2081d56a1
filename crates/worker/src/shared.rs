//! What all parts of a worker use.

use std::{sync::Arc, time::Duration};

use holdfast_queue::Queue;
use holdfast_store::Store;
use tokio::sync::Semaphore;

use crate::{backoff::Backoff, hands::Hands, health::Health, metrics::WorkerMetrics};

/// What all parts of a worker use.
pub(crate) struct Shared {
    pub store: Store,
    pub queue: Queue,
    pub hands: Hands,
    pub health: Health,
    pub metrics: WorkerMetrics,
    /// Bytes of orders that may be in memory.
    pub memory: Arc<Semaphore>,
    pub settings: Parts,
}

/// The settings in the form that the parts use.
pub(crate) struct Parts {
    pub batch: usize,
    pub lease: Duration,
    pub max_attempts: i32,
    pub retry_for: Duration,
    pub backoff: Backoff,
    pub sweep_interval: Duration,
    /// How long idempotency keys are kept.
    pub idempotency_age: Duration,
    pub sweep_after: Duration,
}
