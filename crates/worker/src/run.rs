//! A running worker: its parts, and how it ends.

use std::{sync::Arc, time::Duration};

use holdfast_queue::{Consumer, Queue, QueueError};
use holdfast_store::{Store, StoreMetrics};
use holdfast_telemetry::Readiness;
use prometheus::Registry;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    Fulfilment,
    backoff::Backoff,
    consume::consume,
    finish::finish,
    hands::Hands,
    health::Health,
    maintenance::{self, Task},
    metrics::WorkerMetrics,
    shared::{Parts, Shared},
    unread,
};

/// How often a database without the schema is looked at again.
const SCHEMA_INTERVAL: Duration = Duration::from_millis(500);
/// How long handing back may take, after the limit for finishing has passed.
const HAND_BACK: Duration = Duration::from_secs(2);

/// The bounds of a worker.
#[derive(Clone, Copy, Debug)]
pub struct WorkerSettings {
    /// The most orders in hand.
    pub concurrency: usize,
    /// The most orders of one read and one claim.
    pub batch: usize,
    /// How long a claim holds without being renewed.
    pub lease: Duration,
    /// How often an order is tried.
    pub max_attempts: i32,
    /// For so long after an order was accepted or replayed, tries do not count that fail through no
    /// fault of the order.
    pub retry_for: Duration,
    /// The ceiling of the wait after the first failed try; it doubles with each.
    pub retry_base: Duration,
    /// The longest wait between two tries.
    pub retry_max: Duration,
    /// How often lost orders are looked for.
    pub sweep_interval: Duration,
    /// How long idempotency keys are kept.
    pub idempotency_age: Duration,
    /// How long an order must have been pending to count as lost.
    pub sweep_after: Duration,
}

/// Why a worker could not be made.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The queue's address is not understood.
    #[error("the queue cannot be used")]
    Queue(#[from] QueueError),
    /// A metric's name is taken.
    #[error("the metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

/// A running worker. Dropping it ends it at once: what is in hand is found again by others.
pub struct Worker {
    shared: Arc<Shared>,
    /// No more orders are begun.
    stop: CancellationToken,
    /// Orders in hand are given up.
    abort: CancellationToken,
    /// The longest that orders in hand may still take at the end, if fulfilment says so.
    time_at_the_end: Option<Duration>,
    consuming: AbortOnDropHandle<()>,
    finishing: AbortOnDropHandle<()>,
    _keeping: AbortOnDropHandle<()>,
    _maintenance: Vec<AbortOnDropHandle<()>>,
}

impl Worker {
    /// Starts a worker. It waits for the schema, for PostgreSQL and for Redis by itself, and says
    /// through `readiness` whether it has them. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// An address that is not understood; a metric that is registered already.
    pub fn start<F: Fulfilment>(
        settings: WorkerSettings,
        store: Store,
        queue: Queue,
        fulfilment: F,
        registry: &Registry,
        readiness: Readiness,
    ) -> Result<Self, WorkerError> {
        let metrics = WorkerMetrics::new(registry)?;
        metrics.hands.set(i64::try_from(settings.concurrency).unwrap_or(i64::MAX));
        StoreMetrics::register(registry, &store)?;
        let shared = Arc::new(Shared {
            store,
            queue,
            hands: Hands::new(settings.concurrency, metrics.in_hand.clone()),
            health: Health::new(readiness),
            metrics,
            memory: unread::memory(),
            settings: Parts {
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
        // Two consumers of one name would take each other's messages for their own.
        let name = uuid::Uuid::new_v4().to_string();
        let consumer = Consumer::new(shared.queue.clone(), &name)?;
        let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
        // Cancelled when the schema has been seen: before that there is nothing to maintain.
        let schema = CancellationToken::new();
        let (finished, outcomes) = mpsc::channel(settings.concurrency);
        let time_at_the_end = fulfilment.time_at_the_end();
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
        let maintenance = Task::ALL.map(|task| {
            let (shared, schema) = (Arc::clone(&shared), schema.clone());
            spawn(async move {
                schema.cancelled().await;
                maintenance::repeat(task, shared).await;
            })
        });
        let keeping = shared.hands.clone().keep_alive(
            shared.store.clone(),
            shared.queue.clone(),
            name,
            settings.lease,
        );
        Ok(Self {
            time_at_the_end,
            consuming,
            finishing: spawn(finish(Arc::clone(&shared), outcomes)),
            _keeping: spawn(keeping),
            _maintenance: maintenance.into(),
            shared,
            stop,
            abort,
        })
    }

    /// Ends the worker: it begins nothing new, finishes what is in hand for up to `limit`, or as long
    /// as [`Fulfilment::time_at_the_end`] says, and hands back the rest. Says whether everything in hand was finished.
    pub async fn shutdown(self, limit: Duration) -> bool {
        self.shared.health.ending();
        self.stop.cancel();
        let limit = self.time_at_the_end.map_or(limit, |time| time.min(limit));
        let finished = tokio::time::timeout(limit, async {
            let _ = self.consuming.await;
            self.shared.hands.empty().await;
        })
        .await
        .is_ok();
        if !finished {
            tracing::info!(
                orders = self.shared.hands.in_hand(),
                "the limit for finishing has passed; the rest is handed back"
            );
            self.abort.cancel();
        }
        // Ends when the last outcome is written.
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
    let mut said = false;
    while let Err(error) = store.check_schema().await {
        if !said {
            let error = holdfast_telemetry::Chain(&error);
            tracing::warn!(%error, "waiting for the database's schema");
            said = true;
        }
        tokio::time::sleep(SCHEMA_INTERVAL).await;
    }
}
