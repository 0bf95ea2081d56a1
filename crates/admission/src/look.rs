//! The look: tries the requests for stuck rows again, without waiting, for all rows together.
//!
//! It takes one connection at a time, for one batch at a time, however many rows are stuck.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use holdfast_store::{LockMode, SeenRows};
use tokio::time::sleep_until;

use super::{
    ProductEntry,
    contended::Due,
    lanes::{Lanes, version_of},
    ticket::{Missing, Refusal, Row, Ticket},
};

/// Between two looks, so that rows that are due at about the same time share one.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

impl<P: ProductEntry> Lanes<P> {
    /// Looks until the shared lane has ended and no request waits any more.
    pub(super) async fn run_looks(self: Arc<Self>) {
        let mut last = Instant::now();
        loop {
            let (next, rows) = self.next_look();
            if rows == 0 && self.closed.load(Ordering::Acquire) {
                return;
            }
            let Some(next) = next else {
                self.wake.notified().await;
                continue;
            };
            let next = next.max(last + LOOK_PAUSE);
            if next > Instant::now() {
                tokio::select! {
                    () = sleep_until(next.into()) => {}
                    // A row that is due earlier, perhaps.
                    () = self.wake.notified() => {}
                }
                continue;
            }
            last = Instant::now();
            self.look(last).await;
        }
    }

    async fn look(self: &Arc<Self>, now: Instant) {
        let batch_max = self.runner.settings.batch_max;
        let limit = self.runner.settings.wait_max.min(self.runner.settings.lock_wait_max);
        let is_late = |ticket: &Ticket| now.saturating_duration_since(ticket.arrived) > limit;
        let due = self.contended(|contended| contended.take_due(now, batch_max, is_late));
        let Due { rows, mut tickets, late, long } = due;
        self.taken(tickets.len() + late.len());
        for row in long {
            tracing::warn!(?row, "a row stays locked by another session; requests for it wait");
        }
        for ticket in late {
            self.late(ticket, now);
        }
        if tickets.is_empty() {
            return;
        }
        let missing = self.runner.run(&mut tickets, LockMode::Skip).await;
        let seen = self.versions(&missing).await;
        self.queued(missing.len());
        let looked = self
            .contended(|contended| contended.looked(&rows, missing, |row| version_of(&seen, row)));
        for stuck_for in looked.free {
            self.runner.metrics.row_locked(stuck_for);
        }
        self.start(looked.lanes);
        self.taken(looked.elsewhere.len());
        self.elsewhere(looked.elsewhere).await;
    }

    fn late(&self, ticket: Ticket, now: Instant) {
        if ticket.is_abandoned() {
            self.runner.metrics.abandoned.inc();
        } else {
            self.runner.metrics.row_locked(now.saturating_duration_since(ticket.arrived));
            self.runner.refuse(ticket, Refusal::LockTimeout);
        }
    }

    /// The versions of the rows that are still locked. If they cannot be had, the rows are
    /// taken for what they were.
    async fn versions(&self, missing: &[Missing]) -> SeenRows {
        let products: BTreeSet<_> = missing
            .iter()
            .filter_map(|missing| match missing.row {
                Row::Product(product_id) => Some(product_id),
                _ => None,
            })
            .collect();
        self.runner.versions(products).await
    }
}
