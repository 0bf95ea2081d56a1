//! Retries the requests for stuck rows without waiting for locks, for all rows together.
//!
//! This needs one connection, for one batch at a time, whatever the number of stuck rows.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use holdfast_store::{LockMode, SeenRows};
use tokio::time::sleep_until;

use crate::{
    ProductEntry,
    contended_rows::DueRetry,
    decision::Refusal,
    lanes::{Lanes, version_of},
    needs::NeededRow,
    pending::{Missing, PendingRequest},
};

/// The pause between two retries, so that rows that are due at about the same time share one.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

impl<P: ProductEntry> Lanes<P> {
    /// Retries until the shared lane has ended and no request waits.
    pub(crate) async fn run_retries(self: Arc<Self>) {
        let mut last = Instant::now();
        loop {
            let (next, rows) = self.next_retry();
            if rows == 0 && self.closed.load(Ordering::Acquire) {
                return;
            }
            let Some(next) = next else {
                self.wake.notified().await;
                continue;
            };
            let next = next.max(last + RETRY_PAUSE);
            if next > Instant::now() {
                tokio::select! {
                    () = sleep_until(next.into()) => {}
                    // A row may be due earlier.
                    () = self.wake.notified() => {}
                }
                continue;
            }
            last = Instant::now();
            self.retry(last).await;
        }
    }

    async fn retry(self: &Arc<Self>, now: Instant) {
        let batch_max = self.runner.settings.batch_max;
        let limit = self.runner.settings.wait_max.min(self.runner.settings.lock_wait_max);
        let is_late =
            |request: &PendingRequest| now.saturating_duration_since(request.arrived) > limit;
        let due = self.contended(|contended| contended.take_due(now, batch_max, is_late));
        let DueRetry { rows, mut requests, late, to_log } = due;
        self.taken(requests.len() + late.len());
        for row in to_log {
            tracing::warn!(?row, "a row stays locked by another session; requests for it wait");
        }
        for request in late {
            self.late(request, now);
        }
        if requests.is_empty() {
            return;
        }
        let missing = self.runner.run_to_end(&mut requests, LockMode::Skip).await;
        let seen = self.versions(&missing).await;
        self.queued(missing.len());
        let result = self
            .contended(|contended| contended.retried(&rows, missing, |row| version_of(&seen, row)));
        for stuck_for in result.free {
            self.runner.metrics.row_locked(stuck_for);
        }
        self.start(result.lanes);
        self.refuse_queued(result.refused);
        self.taken(result.elsewhere.len());
        self.elsewhere(result.elsewhere).await;
    }

    fn late(&self, request: PendingRequest, now: Instant) {
        if request.is_abandoned() {
            self.runner.metrics.abandoned.inc();
        } else {
            self.runner.metrics.row_locked(now.saturating_duration_since(request.arrived));
            request.refuse(Refusal::LockTimeout);
        }
    }

    /// The versions of the rows that are still locked; empty if they cannot be read now.
    async fn versions(&self, missing: &[Missing]) -> SeenRows {
        let products: BTreeSet<_> = missing
            .iter()
            .filter_map(|missing| match missing.row {
                NeededRow::Product(product_id) => Some(product_id),
                _ => None,
            })
            .collect();
        self.runner.versions(products).await
    }
}
