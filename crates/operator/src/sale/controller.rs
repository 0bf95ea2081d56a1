//! The controller of all `FlashSale`s, while this replica holds the Lease.
//!
//! kube-runtime watches the sales and reconciles each separately, so that a fault of one does not delay the others. Two
//! jobs concern several sales at once: the minimums of the two autoscalers, and sales in the database whose FlashSale
//! was deleted. A FlashSale has no finalizer, because that would block its namespace where no operator is left.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future};
use holdfast_store::Store;
use jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt as _,
    core::DeserializeGuard,
    runtime::{
        Controller,
        controller::{self, Action},
        reflector::{self, ObjectRef},
        watcher,
    },
};
use tokio::{sync::watch, time::timeout};

use super::{
    SaleSettings,
    capacity::{Capacity, PartCapacity},
    reconcile::{ReconcileError, Reconciler},
    repository::{self, NotWritten, SaleRepository},
    resource::{FlashSale, Phase},
    timeline::Timeline,
};
use crate::{
    OperatorMetrics, calls::CallError, failures::Failures, jobs, leadership::LeaderProgress,
    queues::Queues,
};

/// The most sales that are reconciled at the same time.
const CONCURRENT: u16 = 64;
/// The time limit of a reconcile.
const RECONCILE_LIMIT: Duration = Duration::from_secs(30);
/// The pause before a failed reconcile is retried, and the pause after a conflict.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
const CONFLICT_PAUSE: Duration = Duration::from_millis(250);
/// The duration of a watch, in seconds. A watch on a dead connection is replaced after this time.
const WATCH_SECONDS: u32 = 25;
/// The pause between two rounds of a job.
const JOB_PAUSE: Duration = Duration::from_secs(1);

/// A FlashSale, or why the object cannot be read as one. An unreadable object does not hide others.
pub type Guarded = DeserializeGuard<FlashSale>;

type ControllerError = controller::Error<ReconcileError, watcher::Error>;

/// See the module documentation. Cheap to clone.
#[derive(Clone)]
pub struct SaleController(Arc<ControllerState>);

struct ControllerState {
    settings: SaleSettings,
    api: Api<Guarded>,
    repository: SaleRepository,
    capacity: Arc<Capacity>,
    reconciler: Reconciler,
    progress: LeaderProgress,
    failures: Failures,
    metrics: OperatorMetrics,
    /// Whether the API server does not know `FlashSale`s, so that there are none.
    undefined: AtomicBool,
}

/// Why a job that concerns several sales failed.
#[derive(Debug, thiserror::Error)]
#[error("the database is not available")]
pub struct DatabaseUnavailable;

impl SaleController {
    pub fn new(
        settings: SaleSettings,
        client: &Client,
        store: Option<Store>,
        queues: Queues,
        metrics: OperatorMetrics,
    ) -> Self {
        let failures = Failures::new(metrics.sync_failures.clone());
        let repository = SaleRepository::new(store, failures.clone());
        let api = Api::namespaced(client.clone(), &settings.namespace);
        let capacity = Arc::new(Capacity::new(
            client.clone(),
            settings.namespace.clone(),
            settings.workers.clone(),
            settings.api.clone(),
        ));
        let reconciler = Reconciler::new(
            settings.clone(),
            client.clone(),
            repository.clone(),
            Arc::clone(&capacity),
            queues,
            failures.clone(),
        );
        let undefined = AtomicBool::default();
        Self(Arc::new(ControllerState {
            settings,
            api,
            repository,
            capacity,
            reconciler,
            progress: LeaderProgress::default(),
            failures,
            metrics,
            undefined,
        }))
    }

    /// The time of the last progress of the jobs.
    pub(crate) fn progress(&self) -> LeaderProgress {
        self.0.progress.clone()
    }

    /// Manages the sales while `leading` is true, until it is dropped.
    pub async fn run(self, mut leading: watch::Receiver<bool>) {
        while leading.wait_for(|leads| *leads).await.is_ok() {
            let ended = leading.wait_for(|leads| !*leads);
            future::select(pin!(self.lead()), pin!(ended)).await;
        }
    }

    async fn lead(&self) {
        let watched = watcher::Config::default().timeout(WATCH_SECONDS);
        let controller = Controller::new(self.0.api.clone(), watched)
            .with_config(controller::Config::default().concurrency(CONCURRENT));
        let store = controller.store();
        let reconcile =
            |sale: Arc<Guarded>, this: Arc<Self>| async move { this.watched(&sale).await };
        let retry = |_: Arc<Guarded>, error: &ReconcileError, _: Arc<Self>| {
            Action::requeue(if error.is_conflict() { CONFLICT_PAUSE } else { RETRY_PAUSE })
        };
        let reconciles =
            controller.run(reconcile, retry, Arc::new(self.clone())).for_each(|outcome| {
                self.heard(outcome);
                future::ready(())
            });
        let scaling = |subject, part: fn(&Capacity) -> &PartCapacity| {
            let (this, store) = (self.clone(), store.clone());
            jobs::repeat("autoscalers", subject, self.0.failures.clone(), move || {
                let (this, store) = (this.clone(), store.clone());
                async move { this.scale(part(&this.0.capacity), &store).await }
            })
        };
        let cleaning = jobs::repeat("sales", "deleted", self.0.failures.clone(), || {
            let (this, store) = (self.clone(), store.clone());
            async move { this.clean_up(&store).await }
        });
        tokio::join!(
            reconciles,
            scaling("workers", |capacity| &capacity.workers),
            scaling("api", |capacity| &capacity.api),
            cleaning,
        );
    }

    async fn watched(&self, sale: &Guarded) -> Result<Action, ReconcileError> {
        let sale = match &sale.0 {
            Ok(sale) => sale,
            Err(invalid) => return Err(ReconcileError::Unreadable(invalid.error.clone())),
        };
        let reconciled = timeout(RECONCILE_LIMIT, self.reconcile(sale, None)).await;
        let next = reconciled.map_err(|_elapsed| ReconcileError::Limit(RECONCILE_LIMIT))??;
        Ok(Action::requeue(next))
    }

    /// Does what is due for a sale; see [`Reconciler::reconcile`].
    pub async fn reconcile(
        &self,
        sale: &FlashSale,
        at: Option<Timestamp>,
    ) -> Result<Duration, ReconcileError> {
        self.0.reconciler.reconcile(sale, at).await
    }

    fn heard(&self, outcome: Result<(ObjectRef<Guarded>, Action), ControllerError>) {
        let failures = &self.0.failures;
        match outcome {
            Ok((sale, _)) => {
                failures.heard("sales", &sale.name, Ok::<_, Infallible>(()));
            }
            Err(controller::Error::ReconcilerFailed(error, sale)) if !error.is_conflict() => {
                failures.heard("sales", &sale.name, Err::<(), _>(error));
            }
            Err(controller::Error::QueueError(error)) if is_undefined(&error) => {
                if !self.0.undefined.swap(true, Ordering::Relaxed) {
                    tracing::info!(
                        "the API server does not have the definition of FlashSale, so there are no sales"
                    );
                }
                return;
            }
            Err(controller::Error::QueueError(error)) => {
                failures.heard("sales", "watch", Err::<(), _>(error));
                return;
            }
            // A conflict, or a sale that was deleted in the meantime.
            Err(_) => {}
        }
        self.0.undefined.store(false, Ordering::Relaxed);
        failures.heard("sales", "watch", Ok::<_, Infallible>(()));
    }

    /// The sales of this operator's release; `None` until they are known.
    fn ours(&self, store: &reflector::Store<Guarded>) -> Option<Vec<Arc<Guarded>>> {
        let known = store.wait_until_ready().now_or_never().is_some();
        (known || self.0.undefined.load(Ordering::Relaxed)).then(|| store.state())
    }

    async fn scale(
        &self,
        part: &PartCapacity,
        store: &reflector::Store<Guarded>,
    ) -> Result<Duration, CallError> {
        let Some(sales) = self.ours(store) else { return Ok(JOB_PAUSE) };
        let sales = sales.iter().filter_map(|sale| sale.0.as_ref().ok());
        match self.scale_at(part, &sales.collect::<Vec<_>>(), None).await {
            // Another client has changed it in the meantime.
            Err(error) if error.is_conflict() => Ok(CONFLICT_PAUSE),
            scaled => scaled.map(|()| JOB_PAUSE),
        }
    }

    async fn scale_at(
        &self,
        part: &PartCapacity,
        sales: &[&FlashSale],
        at: Option<Timestamp>,
    ) -> Result<(), CallError> {
        let now = match at {
            Some(at) => at,
            None => match self.0.repository.snapshot().await {
                Ok(snapshot) => snapshot.now(),
                Err(_) => Timestamp::now(),
            },
        };
        let wanting = sales.iter().filter(|sale| self.looks_after(sale)).map(|sale| &sale.spec);
        let wanting = wanting
            .filter(|spec| Timeline::of(spec).is_ok_and(|timeline| timeline.wants_capacity(now)));
        self.0.capacity.scale(part, wanting).await
    }

    /// Sets the minimums of both autoscalers that these sales want at `at`.
    ///
    /// # Errors
    /// The API server does not answer, or refuses.
    pub async fn scale_all(&self, sales: &[&FlashSale], at: Timestamp) -> Result<(), CallError> {
        for part in [&self.0.capacity.workers, &self.0.capacity.api] {
            self.scale_at(part, sales, Some(at)).await?;
        }
        Ok(())
    }

    fn looks_after(&self, sale: &FlashSale) -> bool {
        self.0.settings.looks_after(&sale.spec) && sale.metadata.deletion_timestamp.is_none()
    }

    async fn clean_up(
        &self,
        store: &reflector::Store<Guarded>,
    ) -> Result<Duration, DatabaseUnavailable> {
        let sales = self.ours(store);
        if let Some(sales) = &sales {
            self.count(sales);
        }
        // The database keeps the sales of unreadable objects.
        let kept: Option<Vec<_>> = sales.map(|sales| {
            let kept = sales
                .iter()
                .filter(|sale| sale.0.as_ref().map_or(true, |sale| self.looks_after(sale)));
            kept.map(|sale| sale.name_any()).collect()
        });
        self.delete_others(kept.as_deref()).await?;
        self.0.progress.made();
        Ok(JOB_PAUSE)
    }

    /// Deletes the sales from the database whose FlashSale is not among these; none as long as these are not known.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn delete_others(&self, kept: Option<&[String]>) -> Result<(), DatabaseUnavailable> {
        let snapshot = match self.0.repository.snapshot().await {
            Ok(snapshot) => snapshot,
            Err(NotWritten::Unavailable) => return Err(DatabaseUnavailable),
            // There is no database, or it refuses the statement.
            Err(_) => return Ok(()),
        };
        let Some(kept) = kept else { return Ok(()) };
        let prefix = repository::prefix(&self.0.settings.namespace);
        for name in snapshot.sales.keys() {
            let Some(sale) = name.as_str().strip_prefix(&prefix) else { continue };
            if !kept.iter().any(|kept| kept == sale) {
                self.0.repository.delete(name).await.map_err(|_| DatabaseUnavailable)?;
                tracing::info!(sale, "the FlashSale was deleted, and its sale too");
            }
        }
        Ok(())
    }

    fn count(&self, sales: &[Arc<Guarded>]) {
        let ours = sales.iter().filter_map(|sale| sale.0.as_ref().ok());
        let phases: Vec<_> = ours
            .filter(|sale| self.looks_after(sale))
            .filter_map(|sale| sale.status.as_ref()?.phase)
            .collect();
        for phase in Phase::ALL {
            let count = phases.iter().filter(|shown| **shown == phase).count();
            let gauge = self.0.metrics.sales.with_label_values(&[phase.as_str()]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

/// Whether the definition of `FlashSale` is not installed.
fn is_undefined(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(kube::Error::Api(status))
    | watcher::Error::WatchStartFailed(kube::Error::Api(status))) = error
    else {
        return false;
    };
    status.code == 404
}

#[cfg(test)]
mod tests {
    use kube::core::ObjectList;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_unreadable_object_does_not_hide_others() {
        let sale = |name: &str, spec| {
            json!({
                "apiVersion": "sales.holdfast.dev/v1alpha1", "kind": "FlashSale",
                "metadata": {"name": name, "namespace": "shop"}, "spec": spec,
            })
        };
        let spec = json!({"products": [1], "startsAt": "a", "endsAt": "b"});
        let list = json!({
            "apiVersion": "sales.holdfast.dev/v1alpha1", "kind": "FlashSaleList", "metadata": {},
            "items": [sale("bad", json!({"products": "all"})), sale("good", spec)],
        });
        let list: ObjectList<Guarded> = serde_json::from_value(list).unwrap();
        let read: Vec<_> = list.iter().map(|sale| (sale.name_any(), sale.0.is_ok())).collect();
        assert_eq!(read, [("bad".to_owned(), false), ("good".to_owned(), true)]);
    }
}
