//! Runs batches: which requests are in a batch, and what happens to those of a failed batch.

use std::{sync::Arc, time::Instant};

use holdfast_cache::Cache;
use holdfast_store::{IdempotencyKey, LockMode, Store, StoreError};
use holdfast_telemetry::Chain;

use crate::{
    AdmissionSettings, ProductEntry,
    batch_needs::wanted,
    decision::Refusal,
    metrics::AdmissionMetrics,
    needs::NeededRow,
    pending::{Cause, Missing, PendingRequest},
    publish::Outbox,
    sale_watch::SaleWatch,
    sold_out::SoldOut,
    suspect_keys::SuspectKeys,
    trace::BatchTimes,
};

/// How often a batch is tried if another replica uses one of its keys in the meantime. Each retry finds that key, and
/// its request leaves the batch.
const KEY_TRIES: u8 = 5;

/// Runs the batches of all lanes.
pub(crate) struct Runner<P: ProductEntry> {
    pub settings: AdmissionSettings,
    pub store: Store,
    pub cache: Cache<P>,
    pub sold_out: SoldOut<P>,
    pub sale_watch: SaleWatch,
    pub suspect_keys: SuspectKeys,
    pub outbox: Outbox,
    pub metrics: Arc<AdmissionMetrics>,
}

/// A batch that failed as a whole, with its requests.
enum BatchFailure {
    /// Before its rows were locked.
    Locking(Vec<PendingRequest>, StoreError),
    /// After its rows were locked.
    Later(Vec<PendingRequest>, StoreError),
}

impl<P: ProductEntry> Runner<P> {
    /// Runs all `requests` and answers their callers. Returns those whose rows are missing: another transaction has
    /// locked the row, or it does not exist. Leaves in `requests` those that need more units of expired holds than one
    /// batch returns; they must be run again.
    pub async fn run(&self, requests: &mut Vec<PendingRequest>, mode: LockMode) -> Vec<Missing> {
        let mut missing = Vec::new();
        let mut batches = vec![(self.admit_to_batch(requests), 1)];
        while let Some((batch, tries)) = batches.pop() {
            let keys_were_suspect = self.suspect_keys.any();
            let batch = self.set_taken_keys_aside(batch, &mut missing).await;
            if batch.is_empty() {
                continue;
            }
            self.metrics.batch_size.observe(to_f64(batch.len()));
            let mut times = BatchTimes::begin(mode, batch.len());
            match self.run_batch(batch, mode, &mut times).await {
                Ok((left_out, unserved)) => {
                    missing.extend(left_out);
                    requests.extend(unserved);
                }
                Err(BatchFailure::Later(batch, StoreError::KeyTaken)) if tries < KEY_TRIES => {
                    batches.push((batch, tries + 1));
                }
                // The row of the lane, or the whole table, is locked.
                Err(BatchFailure::Locking(batch, StoreError::LockTimeout(error))) => {
                    tracing::debug!(%error, "the rows of a batch stayed locked");
                    blocked(batch, mode, Cause::Locked, &mut missing);
                }
                Err(BatchFailure::Later(batch, StoreError::LockTimeout(error))) => {
                    if !keys_were_suspect && batch.iter().any(|request| request.key().is_some()) {
                        self.suspect_keys.suspect();
                        batches.push((batch, tries));
                    } else {
                        tracing::warn!(%error, orders = batch.len(), "the write of a batch waited for too long");
                        blocked(batch, mode, Cause::Write, &mut missing);
                    }
                }
                Err(
                    BatchFailure::Locking(mut batch, error) | BatchFailure::Later(mut batch, error),
                ) if batch.len() > 1 && !error.is_transient() => {
                    // The database refuses a request of the batch. Halving finds it in log2(n) steps. The others are
                    // served in their order.
                    tracing::warn!(
                        error = %Chain(&error),
                        orders = batch.len(),
                        "the database refused a batch; it is tried again in halves"
                    );
                    let second = batch.split_off(batch.len() / 2);
                    batches.push((second, 1));
                    batches.push((batch, 1));
                }
                Err(BatchFailure::Locking(batch, error) | BatchFailure::Later(batch, error)) => {
                    times.tell(&batch, Some(refusal_for(&error).reason()));
                    refuse_all(batch, &error);
                }
            }
        }
        missing
    }

    /// Runs all `requests` until none has to be run again.
    pub async fn run_to_end(
        &self,
        requests: &mut Vec<PendingRequest>,
        mode: LockMode,
    ) -> Vec<Missing> {
        let mut missing = self.run(requests, mode).await;
        while !requests.is_empty() {
            missing.extend(self.run(requests, mode).await);
        }
        missing
    }

    /// While transactions that do not end may have written keys, removes the requests with these keys before any
    /// product is locked.
    async fn set_taken_keys_aside(
        &self,
        mut batch: Vec<PendingRequest>,
        missing: &mut Vec<Missing>,
    ) -> Vec<PendingRequest> {
        if !self.suspect_keys.any() {
            return batch;
        }
        let keys: Vec<_> = batch.iter().filter_map(PendingRequest::key).copied().collect();
        if keys.is_empty() {
            return batch;
        }
        match self.store.taken_keys(&keys).await {
            Ok(taken) if taken.is_empty() => batch,
            Ok(taken) => {
                self.suspect_keys.suspect();
                let key = |request: &PendingRequest| {
                    request.key().map(IdempotencyKey::id).filter(|key| taken.contains(key))
                };
                for request in batch.extract_if(.., |request| key(request).is_some()) {
                    if let Some(key) = key(&request) {
                        missing.push(Missing {
                            request,
                            row: NeededRow::Key(key),
                            cause: Cause::Locked,
                        });
                    }
                }
                batch
            }
            Err(error) => {
                // If the database has a problem, the batch itself will fail.
                tracing::debug!(error = %Chain(&error), "taken keys could not be read");
                batch
            }
        }
    }

    /// Removes requests whose callers have disconnected, and refuses those that have waited for too long.
    fn admit_to_batch(&self, requests: &mut Vec<PendingRequest>) -> Vec<PendingRequest> {
        let now = Instant::now();
        let mut batch = Vec::with_capacity(requests.len());
        for request in requests.drain(..) {
            let waited = now.saturating_duration_since(request.arrived);
            if request.is_abandoned() {
                self.metrics.abandoned.inc();
            } else if waited > self.settings.wait_max {
                let locked = request.misses > 0;
                request.refuse(if locked { Refusal::LockTimeout } else { Refusal::Full });
            } else {
                self.metrics.lane_wait.observe(waited.as_secs_f64());
                batch.push(request);
            }
        }
        batch
    }

    /// Locks the rows of a batch and admits its requests. Returns those whose rows are missing, and those that must be
    /// run again.
    async fn run_batch(
        &self,
        mut requests: Vec<PendingRequest>,
        mode: LockMode,
        times: &mut BatchTimes,
    ) -> Result<(Vec<Missing>, Vec<PendingRequest>), BatchFailure> {
        let begun = Instant::now();
        let batch = self.store.lock_batch(&wanted(&requests), mode).await;
        let locked = Instant::now();
        // Includes timeouts, which are the longest waits.
        if matches!(&batch, Ok(_) | Err(StoreError::LockTimeout(_))) {
            self.metrics.lock_wait(mode, locked - begun);
        }
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => return Err(BatchFailure::Locking(requests, error)),
        };
        times.locked = Some(locked);
        self.sale_watch.found(batch.allocator().in_sales(), locked - begun);

        let repeats: Vec<_> =
            requests.extract_if(.., |request| request.decide_by_key(&batch)).collect();
        let missing: Vec<Missing> = requests
            .extract_if(.., |request| request.needs().missing_from(&batch, mode).is_some())
            .filter_map(|request| {
                let row = request.needs().missing_from(&batch, mode)?;
                Some(Missing { request, row, cause: Cause::Locked })
            })
            .collect();
        let admitted = self.admit(batch, requests, locked, times).await;
        let committed = admitted.as_ref().is_ok_and(|admitted| admitted.committed);
        self.answer_repeats(repeats, committed).await;
        match admitted {
            Ok(admitted) => Ok((missing, admitted.unserved)),
            // The requests that were left out are retried or refused with the batch.
            Err((mut requests, error)) => {
                requests.extend(missing.into_iter().map(|missing| missing.request));
                Err(BatchFailure::Later(requests, error))
            }
        }
    }
}

pub(super) fn refuse_all(requests: Vec<PendingRequest>, error: &StoreError) {
    tracing::warn!(
        error = %Chain(error),
        orders = requests.len(),
        "a batch was not admitted"
    );
    let refusal = refusal_for(error);
    for request in requests {
        request.refuse(refusal);
    }
}

/// The refusal for the requests of a failed batch.
pub(crate) fn refusal_for(error: &StoreError) -> Refusal {
    match error {
        StoreError::LockTimeout(_) => Refusal::LockTimeout,
        error if error.is_transient() => Refusal::Unavailable,
        _ => Refusal::Internal,
    }
}

#[allow(clippy::cast_precision_loss)] // batches are small
fn to_f64(count: usize) -> f64 {
    count as f64
}

/// Adds all requests of a batch to the missing ones.
fn blocked(batch: Vec<PendingRequest>, mode: LockMode, cause: Cause, missing: &mut Vec<Missing>) {
    for request in batch {
        // If the locked row is unknown, the request waits for the row of its first product.
        let product_id = match (mode, cause) {
            (LockMode::WaitFor(product_id), Cause::Locked) => Some(product_id),
            _ => request.needs().products().next(),
        };
        if let Some(id) = product_id {
            missing.push(Missing { request, row: NeededRow::Product(id), cause });
        } else {
            tracing::error!("a request without a product is in a batch");
            request.refuse(Refusal::Internal);
        }
    }
}
