//! One batch, from the lock to the answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use holdfast_cache::{Cache, StockChange as CacheChange};
use holdfast_domain::{Allocation, Demand, Money, ProductId, Shortfall, StockChange, allocate};
use holdfast_store::{Batch, CommitError, LockMode, Outcome, Placed, Placement, Store, StoreError};
use holdfast_telemetry::Chain;

use super::{
    AdmissionMetrics, AdmissionSettings,
    publish::Outbox,
    sold_out::SoldOut,
    ticket::{Accepted, Refusal, Ticket},
};
use crate::products::CachedProduct;

/// Runs batches, for every lane alike.
pub(super) struct Runner {
    pub settings: AdmissionSettings,
    pub store: Store,
    pub cache: Cache<CachedProduct>,
    pub sold_out: SoldOut,
    pub outbox: Outbox,
    pub metrics: Arc<AdmissionMetrics>,
}

impl Runner {
    /// Runs all `tickets` and answers their callers. Given back are the tickets whose product is
    /// locked by somebody else, which happens with [`LockMode::Skip`] only.
    pub async fn run(&self, tickets: &mut Vec<Ticket>, mode: LockMode) -> Vec<Ticket> {
        let mut contended = Vec::new();
        let mut batches = vec![self.admit_to_batch(tickets)];
        while let Some(batch) = batches.pop() {
            if batch.is_empty() {
                continue;
            }
            self.metrics.batch_size.observe(to_f64(batch.len()));
            match self.run_batch(batch, mode).await {
                Ok(skipped) => contended.extend(skipped),
                Err((mut batch, error)) if batch.len() > 1 && !error.is_transient() => {
                    // Something in it is refused by the database. In halves, the bad order is
                    // found in log2(n) steps and its neighbours are served, in their order.
                    tracing::warn!(
                        error = %Chain(&error),
                        orders = batch.len(),
                        "the database refused a batch; it is tried again in halves"
                    );
                    let second = batch.split_off(batch.len() / 2);
                    batches.push(second);
                    batches.push(batch);
                }
                Err((batch, error)) => self.refuse_all(batch, &error),
            }
        }
        contended
    }

    /// Leaves out callers that have gone, and refuses those that have waited for too long.
    fn admit_to_batch(&self, tickets: &mut Vec<Ticket>) -> Vec<Ticket> {
        let now = Instant::now();
        let mut batch = Vec::with_capacity(tickets.len());
        for ticket in tickets.drain(..) {
            let waited = now.saturating_duration_since(ticket.arrived);
            if ticket.is_abandoned() {
                self.metrics.abandoned.inc();
            } else if waited > self.settings.wait_max {
                self.refuse(ticket, Refusal::Full);
            } else {
                self.metrics.lane_wait.observe(waited.as_secs_f64());
                batch.push(ticket);
            }
        }
        batch
    }

    async fn run_batch(
        &self,
        mut tickets: Vec<Ticket>,
        mode: LockMode,
    ) -> Result<Vec<Ticket>, (Vec<Ticket>, StoreError)> {
        let products: BTreeSet<ProductId> =
            tickets.iter().map(|ticket| ticket.demand.product_id).collect();
        let asked = Instant::now();
        let batch = match self.store.lock_batch(products.iter().copied(), mode).await {
            Ok(batch) => batch,
            Err(error) => return Err((tickets, error)),
        };
        let locked = Instant::now();
        self.metrics.lock_wait.observe((locked - asked).as_secs_f64());

        let missing = match mode {
            LockMode::Wait => Vec::new(),
            // Locked by somebody else, or not there at all.
            LockMode::Skip => tickets
                .extract_if(.., |ticket| !batch.shelf().contains_key(&ticket.demand.product_id))
                .collect(),
        };
        match self.admit(batch, tickets, locked).await {
            Ok(()) => Ok(self.locked_by_others(missing).await),
            // Those that were left out share the fate of the batch, or its next try.
            Err((mut tickets, error)) => {
                tickets.extend(missing);
                Err((tickets, error))
            }
        }
    }

    /// From the lock to the answers.
    async fn admit(
        &self,
        batch: Batch,
        tickets: Vec<Ticket>,
        locked: Instant,
    ) -> Result<(), (Vec<Ticket>, StoreError)> {
        let demands: Vec<Demand> = tickets.iter().map(|ticket| ticket.demand).collect();
        let Allocation { verdicts, changes } = allocate(batch.shelf(), &demands);
        if changes.is_empty() {
            if let Err(error) = batch.release().await {
                tracing::debug!(error = %Chain(&error), "the connection broke after an empty batch");
            }
            self.answer_unchanged(tickets, &verdicts);
            return Ok(());
        }

        let placements: Vec<Placement<'_>> = tickets
            .iter()
            .zip(&verdicts)
            .filter_map(|(ticket, verdict)| {
                Some(Placement {
                    product_id: ticket.demand.product_id,
                    quantity: ticket.demand.quantity,
                    unit_price: *verdict.as_ref().ok()?,
                    trace_context: ticket.trace_context.as_deref(),
                })
            })
            .collect();
        // Before the commit: from now on nobody can put an older version into the cache, even
        // should this process be killed the moment after.
        let fences: Vec<_> =
            changes.iter().map(|change| (change.product_id.0, change.version)).collect();
        let (written, raised) = tokio::join!(
            batch.write(&changes, &placements, rand::random()),
            self.cache.raise(&fences)
        );
        let written = match written {
            Ok(written) => written,
            Err(error) => {
                raised.aborted();
                return Err((tickets, error));
            }
        };
        let committing = Instant::now();
        let committed = written.commit().await;
        let done = Instant::now();
        self.metrics.commit.observe((done - committing).as_secs_f64());
        self.metrics.lock_held.observe((done - locked).as_secs_f64());
        let placed = match committed {
            Ok(placed) => placed,
            Err(error) => match self.find_out(*error).await {
                Ok(placed) => placed,
                Err(refusal) => {
                    // If it is known that nothing was committed, the old values are still true;
                    // otherwise dropping `raised` takes them out of this process's memory.
                    if refusal != Refusal::OutcomeUnknown {
                        raised.aborted();
                    }
                    for ticket in tickets {
                        self.refuse(ticket, refusal);
                    }
                    return Ok(());
                }
            },
        };
        raised.committed(&changes.iter().map(cache_change).collect::<Vec<_>>());
        self.answer(tickets, &verdicts, &placed);
        Ok(())
    }

    /// Looks up what became of a commit that was not answered.
    async fn find_out(&self, unanswered: CommitError) -> Result<Placed, Refusal> {
        let CommitError { placed, token, source } = unanswered;
        tracing::warn!(
            error = %Chain(&source),
            orders = placed.ids.len(),
            "a commit was not answered; its outcome is looked up"
        );
        let Some(&first) = placed.ids.first() else { return Ok(placed) };
        let outcome =
            tokio::time::timeout(self.settings.outcome_timeout, self.store.outcome(&token, first))
                .await;
        match outcome {
            Ok(Outcome::Committed) => Ok(placed),
            Ok(Outcome::RolledBack) => Err(Refusal::Unavailable),
            Err(_elapsed) => Err(Refusal::OutcomeUnknown),
        }
    }

    fn answer(&self, tickets: Vec<Ticket>, verdicts: &[Result<Money, Shortfall>], placed: &Placed) {
        // The workers hear of it first: the callers' answers wake hundreds of tasks.
        self.outbox.send(
            tickets
                .iter()
                .zip(verdicts)
                .filter(|(_, verdict)| verdict.is_ok())
                .zip(&placed.ids)
                .map(|((ticket, _), id)| (*id, ticket.trace_context.clone())),
        );
        let mut ids = placed.ids.iter();
        for (ticket, verdict) in tickets.into_iter().zip(verdicts) {
            match verdict {
                Err(shortfall) => self.refuse(ticket, (*shortfall).into()),
                Ok(unit_price) => match ids.next() {
                    Some(id) => {
                        self.metrics.accepted.inc();
                        ticket.answer(Ok(Accepted {
                            id: *id,
                            unit_price: *unit_price,
                            created_at: placed.created_at,
                        }));
                    }
                    // As many ids as placements come back; the statement makes them so.
                    None => self.refuse(ticket, Refusal::OutcomeUnknown),
                },
            }
        }
    }

    /// Answers a batch in which every order was refused.
    fn answer_unchanged(&self, tickets: Vec<Ticket>, verdicts: &[Result<Money, Shortfall>]) {
        for (ticket, verdict) in tickets.into_iter().zip(verdicts) {
            let refusal = verdict.as_ref().err().map_or(Refusal::Internal, |short| (*short).into());
            self.refuse(ticket, refusal);
        }
    }

    /// Of tickets whose row could not be locked at once, those that must wait for it. The others
    /// name a product that does not exist, and are told so.
    async fn locked_by_others(&self, tickets: Vec<Ticket>) -> Vec<Ticket> {
        if tickets.is_empty() {
            return tickets;
        }
        let mut by_product: BTreeMap<ProductId, Vec<Ticket>> = BTreeMap::new();
        for ticket in tickets {
            by_product.entry(ticket.demand.product_id).or_default().push(ticket);
        }
        let ids: Vec<_> = by_product.keys().copied().collect();
        match self.store.products_on_sale(&ids).await {
            Ok(on_sale) => {
                let (wait, unknown): (Vec<_>, Vec<_>) =
                    by_product.into_iter().partition(|(id, _)| on_sale.binary_search(id).is_ok());
                for ticket in unknown.into_iter().flat_map(|(_, tickets)| tickets) {
                    self.refuse(ticket, Refusal::UnknownProduct);
                }
                wait.into_iter().flat_map(|(_, tickets)| tickets).collect()
            }
            Err(error) => {
                self.refuse_all(by_product.into_values().flatten().collect(), &error);
                Vec::new()
            }
        }
    }

    fn refuse_all(&self, tickets: Vec<Ticket>, error: &StoreError) {
        tracing::warn!(
            error = %Chain(error),
            orders = tickets.len(),
            "a batch was not admitted"
        );
        let refusal = match error {
            StoreError::LockTimeout(_) => Refusal::LockTimeout,
            error if error.is_transient() => Refusal::Unavailable,
            _ => Refusal::Internal,
        };
        for ticket in tickets {
            self.refuse(ticket, refusal);
        }
    }

    pub fn refuse(&self, ticket: Ticket, refusal: Refusal) {
        if matches!(refusal, Refusal::NotEnough { .. }) {
            self.sold_out.learn(ticket.demand.product_id);
        }
        self.metrics.refused(refusal);
        ticket.answer(Err(refusal));
    }
}

impl From<Shortfall> for Refusal {
    fn from(shortfall: Shortfall) -> Self {
        match shortfall {
            Shortfall::UnknownProduct => Self::UnknownProduct,
            Shortfall::NotEnough { left } => Self::NotEnough { left },
        }
    }
}

fn cache_change(change: &StockChange) -> CacheChange {
    CacheChange {
        id: change.product_id.0,
        previous_version: change.version - 1,
        version: change.version,
        stock: change.left.units(),
    }
}

#[allow(clippy::cast_precision_loss)] // batches are small
fn to_f64(count: usize) -> f64 {
    count as f64
}
