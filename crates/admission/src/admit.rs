//! Admits the requests of a batch: from the row locks to the answers.

use std::time::Instant;

use holdfast_cache::{FenceGuard, StockChange};
use holdfast_domain::{HoldStatus, ProductChange, Shortfall};
use holdfast_store::{Batch, BatchOutcome, CommitError, EndedHold, StoreError};
use holdfast_telemetry::Chain;

use crate::{
    ProductEntry,
    batch::Runner,
    batch_needs::count_customer_totals,
    case::KeyResults,
    decide::{decide, key_results, records},
    decision::Refusal,
    expired_holds::{ExpiredHolds, short_with_holds},
    pending::PendingRequest,
    trace::BatchTimes,
};

/// A finished batch.
pub(crate) struct Admitted {
    /// Whether the batch is known to be committed.
    pub committed: bool,
    /// Requests that are not answered yet; see [`Runner::decide_on`].
    pub unserved: Vec<PendingRequest>,
}

/// How a batch ended in the database.
enum BatchEnd {
    Committed,
    /// It had nothing to write.
    Empty,
    /// Its commit was not answered. It was rolled back, or its outcome is unknown.
    Refused(Refusal),
}

impl<P: ProductEntry> Runner<P> {
    /// Decides on requests, writes what is granted, commits, and answers the callers. Returns the requests that need
    /// more units of expired holds than one batch returns.
    pub async fn admit(
        &self,
        mut batch: Batch,
        mut requests: Vec<PendingRequest>,
        locked: Instant,
        times: &mut BatchTimes,
    ) -> Result<Admitted, (Vec<PendingRequest>, StoreError)> {
        let mut unserved = Vec::new();
        let ended = match self.decide_on(&mut batch, &mut requests, &mut unserved).await {
            Ok((changes, holds)) => {
                self.write(batch, &changes, &mut requests, holds, locked, times).await
            }
            Err(error) => Err(error),
        };
        match ended {
            Err(error) => {
                requests.extend(unserved);
                return Err((requests, error));
            }
            Ok(BatchEnd::Committed) => {
                times.tell(&requests, None);
                self.answer(requests);
                return Ok(Admitted { committed: true, unserved });
            }
            Ok(BatchEnd::Empty) => {
                times.tell(&requests, None);
                let repeats = requests.extract_if(.., |request| !request.is_refused()).collect();
                self.answer(requests);
                self.answer_repeats(repeats, false).await;
            }
            Ok(BatchEnd::Refused(refusal)) => {
                times.tell(&requests, Some(refusal.reason()));
                for request in requests {
                    request.refuse(refusal);
                }
            }
        }
        Ok(Admitted { committed: false, unserved })
    }

    /// Decides on the requests of a batch. Returns the changes of the products, and the expired holds whose units are
    /// returned because products run short. Moves the requests that need more of these units into `unserved`.
    async fn decide_on(
        &self,
        batch: &mut Batch,
        requests: &mut Vec<PendingRequest>,
        unserved: &mut Vec<PendingRequest>,
    ) -> Result<(Vec<ProductChange>, Vec<EndedHold>), StoreError> {
        count_customer_totals(batch, requests).await?;
        let mut allocator = batch.allocator().clone();
        decide(&mut allocator, requests);
        let mut ended = Vec::new();
        let short = short_with_holds(batch.allocator(), requests);
        if !short.is_empty() {
            let expired = ExpiredHolds::find(batch, &short).await?;
            if !expired.is_empty() {
                let decide_anew = |requests: &mut [PendingRequest]| {
                    let mut allocator = batch.allocator().clone();
                    let ended = expired.expire(&mut allocator);
                    decide(&mut allocator, requests);
                    (allocator, ended)
                };
                (allocator, ended) = decide_anew(requests);
                // If none were returned, the next batch would not return any either.
                if !ended.is_empty() {
                    *unserved = expired.take_unserved(requests);
                }
                if !unserved.is_empty() {
                    (allocator, ended) = decide_anew(requests);
                }
            }
        }
        look_up_keys_of_refused(batch, requests).await?;
        Ok((allocator.changes(), ended))
    }

    /// Writes what is granted, and commits it.
    async fn write(
        &self,
        batch: Batch,
        changes: &[ProductChange],
        requests: &mut [PendingRequest],
        holds: Vec<EndedHold>,
        locked: Instant,
        times: &mut BatchTimes,
    ) -> Result<BatchEnd, StoreError> {
        let mut records = records(requests, holds);
        // The records decide whether there is something to write, not the stock: a release and a hold of the same
        // quantity leave the stock unchanged, and both must be written.
        if records.is_empty() {
            if let Err(error) = batch.release().await {
                tracing::debug!(error = %Chain(&error), "the connection broke after an empty batch");
            }
            return Ok(BatchEnd::Empty);
        }
        let is_expired = |hold: &&EndedHold| hold.status == HoldStatus::Expired;
        let expired = records.ended.iter().filter(is_expired).count();
        // The fences are raised before the commit, so that no replica can put an older version into the cache, even if
        // this process is killed right after the commit.
        let fences: Vec<_> =
            changes.iter().map(|change| (change.product_id.0, change.version)).collect();
        let (written, guard) = tokio::join!(
            batch.write(changes, &mut records, rand::random()),
            self.cache.raise(&fences)
        );
        let written = match written {
            Ok(written) => written,
            Err(error) => {
                guard.aborted();
                return Err(error);
            }
        };
        let committing = Instant::now();
        times.written = Some(committing);
        let committed = written.commit().await;
        let done = Instant::now();
        times.committed = Some(done);
        self.metrics.commit.observe((done - committing).as_secs_f64());
        self.metrics.lock_held.observe((done - locked).as_secs_f64());
        if let Err(error) = committed
            && let Err(refusal) = self.find_out(*error).await
        {
            // If nothing was committed, the old values are still correct. Otherwise, dropping the guard removes them
            // from this process's memory.
            if refusal != Refusal::OutcomeUnknown {
                guard.aborted();
            }
            return Ok(BatchEnd::Refused(refusal));
        }
        self.metrics.hottest(changes);
        self.tell_cache(guard, changes);
        self.metrics.holds_expired.inc_by(expired as u64);
        Ok(BatchEnd::Committed)
    }

    /// Passes the stock of the products that are for sale to the cache. Units that are returned to a deleted product
    /// must not put it into the cache, because it would be refused as sold out instead of as unknown.
    fn tell_cache(&self, guard: FenceGuard<P>, changes: &[ProductChange]) {
        let (sold, retired): (Vec<_>, Vec<_>) = changes.iter().partition(|it| it.on_sale);
        guard.committed(&sold.into_iter().map(stock_change).collect::<Vec<_>>());
        if !retired.is_empty() {
            let retired: Vec<_> =
                retired.iter().map(|change| (change.product_id.0, change.version)).collect();
            self.cache.changed(&retired);
        }
    }

    /// Finds out whether an unanswered commit took effect.
    async fn find_out(&self, unanswered: CommitError) -> Result<(), Refusal> {
        let CommitError { token, source } = unanswered;
        tracing::warn!(
            error = %Chain(&source),
            "a commit was not answered; the database is asked for its outcome"
        );
        let outcome =
            tokio::time::timeout(self.settings.outcome_timeout, self.store.outcome(&token)).await;
        match outcome {
            Ok(BatchOutcome::Committed) => Ok(()),
            Ok(BatchOutcome::RolledBack) => Err(Refusal::Unavailable),
            Err(_elapsed) => Err(Refusal::OutcomeUnknown),
        }
    }

    /// Answers requests whose keys were used before their batch. Their results are only read, so a synchronous standby
    /// may not have them yet. A commit after the read proves that it has.
    pub async fn answer_repeats(&self, repeats: Vec<PendingRequest>, committed: bool) {
        if !committed
            && repeats.iter().any(|request| !request.is_refused())
            && let Err(error) = self.store.replicated().await
        {
            tracing::warn!(
                error = %Chain(&error),
                orders = repeats.len(),
                "the standby did not confirm the results of earlier requests"
            );
            for request in repeats {
                request.refuse(Refusal::OutcomeUnknown);
            }
            return;
        }
        for request in repeats {
            request.answer(&KeyResults::new(), &self.metrics);
        }
    }

    /// Answers the requests of a finished batch.
    fn answer(&self, requests: Vec<PendingRequest>) {
        // The workers are notified first, because the callers' answers wake hundreds of tasks.
        self.outbox.send(requests.iter().filter_map(PendingRequest::new_order));
        let results = key_results(&requests);
        for request in requests {
            if let Some(Shortfall::NotEnough { product_id, .. }) = request.shortfall() {
                self.sold_out.learn(product_id);
            }
            request.answer(&results, &self.metrics);
        }
    }
}

/// Reads the keys of refused requests once more. They were read before the rows were locked, and the transaction that
/// held the locks may have been the first with the same key. The caller of the second request must then get that order,
/// instead of a refusal because that order has taken the stock.
async fn look_up_keys_of_refused(
    batch: &mut Batch,
    requests: &mut [PendingRequest],
) -> Result<(), StoreError> {
    let refused = requests.iter().filter(|request| request.is_refused());
    let keys: Vec<_> = refused.filter_map(PendingRequest::key).copied().collect();
    if keys.is_empty() {
        return Ok(());
    }
    batch.look_up(&keys).await?;
    for request in requests.iter_mut().filter(|request| request.is_refused()) {
        request.decide_by_key(batch);
    }
    Ok(())
}

fn stock_change(change: &ProductChange) -> StockChange {
    StockChange {
        id: change.product_id.0,
        previous_version: change.version - 1,
        version: change.version,
        stock: change.left.units(),
    }
}
