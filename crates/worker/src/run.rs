//! A running worker: its tasks, and its shutdown.

use std::{sync::Arc, time::Duration};

use holdfast_queue::{Consumer, Queue, QueueError};
use holdfast_store::{Store, StoreMetrics};
use holdfast_telemetry::{Readiness, Registry, metrics};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    Fulfilment,
    backoff::Backoff,
    consume::consume,
    context::{JobSettings, WorkerContext},
    finish::finish,
    health::WorkerHealth,
    in_flight::ConcurrencyLimit,
    maintenance,
    maintenance_task::MaintenanceTask,
    metrics::WorkerMetrics,
    unread,
};

/// How often a database without the required schema is checked again.
const SCHEMA_INTERVAL: Duration = Duration::from_millis(500);
/// How long handing orders back may take, after the time limit for finishing them.
const HAND_BACK: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug)]
pub struct WorkerSettings {
    /// The most orders in flight.
    pub concurrency: usize,
    /// The most orders of one read and one claim.
    pub batch: usize,
    /// How long a claim is valid without being renewed.
    pub lease: Duration,
    pub max_attempts: i32,
    /// For this long after an order was accepted or replayed, an attempt that fails because the receiver is unavailable does
    /// not count.
    pub retry_for: Duration,
    /// The upper bound of the delay after the first failed attempt; it doubles with each attempt.
    pub retry_base: Duration,
    /// The longest delay between two attempts.
    pub retry_max: Duration,
    /// How often the worker looks for lost orders.
    pub sweep_interval: Duration,
    /// How long idempotency keys are kept.
    pub idempotency_age: Duration,
    /// How long an order must have been pending to count as lost.
    pub sweep_after: Duration,
}

/// Why a worker cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("the queue cannot be used")]
    Queue(#[from] QueueError),
    #[error("the metrics cannot be registered")]
    Metrics(#[from] metrics::Error),
}

/// A running worker. Dropping it ends it at once: other workers find the orders that were in flight.
pub struct Worker {
    shared: Arc<WorkerContext>,
    /// Start no more orders.
    stop: CancellationToken,
    /// Abandon the orders in flight.
    abort: CancellationToken,
    /// How long orders in flight may still take at shutdown, if the fulfilment limits it.
    shutdown_time: Option<Duration>,
    consuming: AbortOnDropHandle<()>,
    finishing: AbortOnDropHandle<()>,
    _keeping: AbortOnDropHandle<()>,
    _maintenance: Vec<AbortOnDropHandle<()>>,
}

impl Worker {
    /// Starts a worker. It waits for PostgreSQL, its schema and Redis, and sets `readiness` accordingly. Must be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// The Redis URL is not valid, or a metric is already registered.
    pub fn start<F: Fulfilment>(
        settings: WorkerSettings,
        store: Store,
        queue: Queue,
        fulfilment: F,
        registry: &Registry,
        readiness: Readiness,
    ) -> Result<Self, WorkerError> {
        let metrics = WorkerMetrics::unmeasured(registry)?;
        metrics.concurrency_limit.set(i64::try_from(settings.concurrency).unwrap_or(i64::MAX));
        StoreMetrics::register(registry, &store)?;
        let shared = Arc::new(WorkerContext {
            store,
            queue,
            limit: ConcurrencyLimit::new(settings.concurrency, metrics.in_flight.clone()),
            health: WorkerHealth::new(readiness),
            metrics,
            memory: unread::memory(),
            redis_is_new: Notify::new(),
            settings: JobSettings {
                batch: settings.batch,
                lease: settings.lease,
                max_attempts: settings.max_attempts,
                retry_for: settings.retry_for,
                backoff: Backoff { base: settings.retry_base, max: settings.retry_max },
                sweep_interval: settings.sweep_interval,
                idempotency_age: settings.idempotency_age,
                sweep_after: settings.sweep_after,
            },
        });
        // Two consumers with the same name would receive each other's messages.
        let name = uuid::Uuid::new_v4().to_string();
        let consumer = Consumer::new(shared.queue.clone(), &name);
        let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
        // Cancelled when the schema exists: before that there is nothing to maintain.
        let schema = CancellationToken::new();
        let (finished, outcomes) = mpsc::channel(settings.concurrency);
        let shutdown_time = fulfilment.shutdown_time();
        let consuming = {
            let (shared, stop, abort) = (Arc::clone(&shared), stop.clone(), abort.clone());
            let (fulfilment, schema) = (Arc::new(fulfilment), schema.clone());
            spawn(async move {
                if stop.run_until_cancelled(wait_for_schema(&shared.store)).await.is_some() {
                    schema.cancel();
                    consume(shared, consumer, fulfilment, finished, stop, abort).await;
                }
            })
        };
        let maintenance = MaintenanceTask::ALL.map(|task| {
            let (shared, schema) = (Arc::clone(&shared), schema.clone());
            spawn(async move {
                schema.cancelled().await;
                maintenance::repeat(task, shared).await;
            })
        });
        let keeping = shared.limit.clone().keep_alive(
            shared.store.clone(),
            shared.queue.clone(),
            name,
            settings.lease,
        );
        Ok(Self {
            shutdown_time,
            consuming,
            finishing: spawn(finish(Arc::clone(&shared), outcomes)),
            _keeping: spawn(keeping),
            _maintenance: maintenance.into(),
            shared,
            stop,
            abort,
        })
    }

    /// Ends the worker: it starts nothing new, finishes the orders in flight for up to `limit` or
    /// [`Fulfilment::shutdown_time`], whichever is less, and hands back the rest. Returns whether all orders in flight
    /// were finished and all outcomes were written in time.
    pub async fn shutdown(self, limit: Duration) -> bool {
        self.shared.health.ending();
        self.stop.cancel();
        let limit = self.shutdown_time.map_or(limit, |time| time.min(limit));
        let finished = tokio::time::timeout(limit, async {
            let _ = self.consuming.await;
            self.shared.limit.idle().await;
        })
        .await
        .is_ok();
        if !finished {
            tracing::info!(
                orders = self.shared.limit.in_flight(),
                "the time limit for finishing has passed; the remaining orders are handed back"
            );
            self.abort.cancel();
        }
        // Returns when the last outcome is written.
        let written = tokio::time::timeout(HAND_BACK, self.finishing).await.is_ok();
        finished && written
    }
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    let task: JoinHandle<()> = tokio::spawn(task);
    AbortOnDropHandle::new(task)
}

/// Waits until the database has the schema that this binary needs.
async fn wait_for_schema(store: &Store) {
    let mut logged = false;
    while let Err(error) = store.check_schema().await {
        if !logged {
            let error = holdfast_telemetry::Chain(&error);
            tracing::warn!(%error, "waiting for the database schema");
            logged = true;
        }
        tokio::time::sleep(SCHEMA_INTERVAL).await;
    }
}
