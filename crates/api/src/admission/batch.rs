//! One batch, from the lock to the answers.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use holdfast_cache::{Cache, StockChange as CacheChange};
use holdfast_domain::{Grant, HoldStatus, ProductId, Shortfall, StockChange};
use holdfast_store::{
    Batch, CommitError, IdempotencyKey, LockMode, Outcome, Placed, Store, StoreError, Wanted,
};
use holdfast_telemetry::Chain;

use super::{
    AdmissionMetrics, AdmissionSettings,
    publish::Outbox,
    rule::{Ruling, expire, records, repeat_of, rule, short_of_held},
    sold_out::SoldOut,
    ticket::{Accepted, AcceptedHold, AcceptedOrder, Missing, Refusal, Ticket},
};
use crate::products::CachedProduct;

/// How often a batch is tried again because another replica took one of its keys meanwhile. Each
/// time, that key is found and its ticket leaves the batch.
const KEY_TRIES: u8 = 5;

/// Runs batches, for every lane alike.
pub(super) struct Runner {
    pub settings: AdmissionSettings,
    pub store: Store,
    pub cache: Cache<CachedProduct>,
    pub sold_out: SoldOut,
    pub outbox: Outbox,
    pub metrics: Arc<AdmissionMetrics>,
}

/// A batch that failed, whole.
type Failed = (Vec<Ticket>, StoreError);

impl Runner {
    /// Runs all `tickets` and answers their callers. Given back are the tickets that miss a row which
    /// somebody else has locked; there are none with [`LockMode::Wait`].
    pub async fn run(&self, tickets: &mut Vec<Ticket>, mode: LockMode) -> Vec<Missing> {
        let mut contended = Vec::new();
        let mut batches = vec![(self.admit_to_batch(tickets), 1)];
        while let Some((batch, tries)) = batches.pop() {
            if batch.is_empty() {
                continue;
            }
            self.metrics.batch_size.observe(to_f64(batch.len()));
            match self.run_batch(batch, mode).await {
                Ok(missing) => contended.extend(missing),
                Err((batch, StoreError::KeyTaken)) if tries < KEY_TRIES => {
                    batches.push((batch, tries + 1));
                }
                Err((mut batch, error)) if batch.len() > 1 && !error.is_transient() => {
                    // Something in it is refused by the database. In halves, the bad order is
                    // found in log2(n) steps and its neighbours are served, in their order.
                    tracing::warn!(
                        error = %Chain(&error),
                        orders = batch.len(),
                        "the database refused a batch; it is tried again in halves"
                    );
                    let second = batch.split_off(batch.len() / 2);
                    batches.push((second, 1));
                    batches.push((batch, 1));
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
    ) -> Result<Vec<Missing>, Failed> {
        let asked = Instant::now();
        let batch = match self.store.lock_batch(&wanted(&tickets), mode).await {
            Ok(batch) => batch,
            Err(error) => return Err((tickets, error)),
        };
        let locked = Instant::now();
        self.metrics.lock_wait.observe((locked - asked).as_secs_f64());

        self.answer_repeats(&mut tickets, &batch);
        // Locked by somebody else, or not there at all.
        let missed = |ticket: &Ticket| {
            ticket.demand.products().find(|product_id| !batch.shelf().has(*product_id))
        };
        let missing: Vec<Missing> = match mode {
            LockMode::Wait => Vec::new(),
            LockMode::Skip | LockMode::WaitFor(_) => tickets
                .extract_if(.., |ticket| missed(ticket).is_some())
                .filter_map(|ticket| missed(&ticket).map(|product_id| (ticket, product_id)))
                .collect(),
        };
        match self.admit(batch, tickets, locked).await {
            Ok(()) => Ok(self.locked_by_others(missing).await),
            // Those that were left out share the fate of the batch, or its next try.
            Err((mut tickets, error)) => {
                tickets.extend(missing.into_iter().map(|(ticket, _)| ticket));
                Err((tickets, error))
            }
        }
    }

    /// Answers the tickets whose key was used before this batch.
    fn answer_repeats(&self, tickets: &mut Vec<Ticket>, batch: &Batch) {
        let used = |ticket: &Ticket| {
            let key = ticket.details.key?;
            batch.keyed(&key).map(|result| (key, *result))
        };
        for ticket in tickets.extract_if(.., |ticket| used(ticket).is_some()) {
            match used(&ticket) {
                Some((key, result))
                    if key.led_to(&result) && ticket.kind() == Some(result.kind) =>
                {
                    self.metrics.repeated.inc();
                    ticket.answer(Ok(Accepted::Repeat { kind: result.kind, id: result.id }));
                }
                _ => self.refuse(ticket, Refusal::KeyReused),
            }
        }
    }

    /// From the lock to the answers.
    async fn admit(
        &self,
        mut batch: Batch,
        tickets: Vec<Ticket>,
        locked: Instant,
    ) -> Result<(), Failed> {
        let mut stock = batch.shelf().clone();
        let mut rulings = rule(&mut stock, &tickets);
        let mut ended = Vec::new();
        let short = short_of_held(batch.shelf(), &tickets, &rulings);
        if !short.is_empty() {
            let expired = match batch.expired_holds(&short).await {
                Ok(expired) => expired,
                Err(error) => return Err((tickets, error)),
            };
            if !expired.is_empty() {
                stock = batch.shelf().clone();
                ended = expire(&mut stock, &expired);
                rulings = rule(&mut stock, &tickets);
            }
        }
        let changes = stock.changes();
        if changes.is_empty() {
            if let Err(error) = batch.release().await {
                tracing::debug!(error = %Chain(&error), "the connection broke after an empty batch");
            }
            self.answer(tickets, rulings, None);
            return Ok(());
        }

        let records = records(&tickets, &rulings, ended);
        // Before the commit: from now on nobody can put an older version into the cache, even
        // should this process be killed the moment after.
        let fences: Vec<_> =
            changes.iter().map(|change| (change.product_id.0, change.version)).collect();
        let (written, raised) = tokio::join!(
            batch.write(&changes, &records, rand::random()),
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
        self.metrics.holds_expired.inc_by(
            records.ended.iter().filter(|ended| ended.status == HoldStatus::Expired).count() as u64,
        );
        self.answer(tickets, rulings, Some(&placed));
        Ok(())
    }

    /// Looks up what became of a commit that was not answered.
    async fn find_out(&self, unanswered: CommitError) -> Result<Placed, Refusal> {
        let CommitError { placed, token, source } = unanswered;
        tracing::warn!(
            error = %Chain(&source),
            orders = placed.orders.len(),
            "a commit was not answered; its outcome is looked up"
        );
        let outcome =
            tokio::time::timeout(self.settings.outcome_timeout, self.store.outcome(&token)).await;
        match outcome {
            Ok(Outcome::Committed) => Ok(placed),
            Ok(Outcome::RolledBack) => Err(Refusal::Unavailable),
            Err(_elapsed) => Err(Refusal::OutcomeUnknown),
        }
    }

    /// Answers the tickets of a batch: `placed` is what it committed, if it changed anything.
    fn answer(&self, tickets: Vec<Ticket>, rulings: Vec<Ruling>, placed: Option<&Placed>) {
        let answers = Answers::new(rulings, placed);
        // The workers hear of it first: the callers' answers wake hundreds of tasks.
        self.outbox.send(tickets.iter().zip(&answers.0).filter_map(|(ticket, answer)| {
            let Ok(Accepted::Order(order)) = answer else { return None };
            Some((order.id, ticket.details.trace_context.clone()))
        }));
        for (ticket, answer) in tickets.into_iter().zip(answers.0) {
            match answer {
                Ok(accepted) => {
                    self.metrics.accepted(&ticket.demand, &accepted);
                    ticket.answer(Ok(accepted));
                }
                Err(refusal) => self.refuse(ticket, refusal),
            }
        }
    }

    /// Of tickets that miss a row, those that must wait for it. The others name a product that does
    /// not exist, and are told so.
    async fn locked_by_others(&self, missing: Vec<Missing>) -> Vec<Missing> {
        if missing.is_empty() {
            return missing;
        }
        let products: BTreeSet<ProductId> =
            missing.iter().map(|(_, product_id)| *product_id).collect();
        match self.store.existing_products(&products).await {
            Ok(existing) => {
                let (wait, unknown): (Vec<_>, Vec<_>) = missing
                    .into_iter()
                    .partition(|(_, product_id)| existing.binary_search(product_id).is_ok());
                for (ticket, product_id) in unknown {
                    self.refuse(ticket, Refusal::Short(Shortfall::UnknownProduct(product_id)));
                }
                wait
            }
            Err(error) => {
                self.refuse_all(missing.into_iter().map(|(ticket, _)| ticket).collect(), &error);
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
        if let Refusal::Short(Shortfall::NotEnough { product_id, .. }) = refusal {
            self.sold_out.learn(product_id);
        }
        self.metrics.refused(refusal);
        ticket.answer(Err(refusal));
    }
}

/// What the tickets need to see and to lock.
fn wanted(tickets: &[Ticket]) -> Wanted<'_> {
    let mut wanted = Wanted::default();
    for Ticket { demand, details, .. } in tickets {
        wanted.products.extend(demand.products());
        wanted.holds.extend(demand.holds());
        wanted.orders.extend(demand.order());
        wanted.keys.extend(&details.key);
    }
    wanted.keys.sort_unstable_by_key(|key| key.id());
    wanted.keys.dedup_by_key(|key| IdempotencyKey::id(key));
    wanted
}

/// For each ticket, what its caller is told.
struct Answers(Vec<Result<Accepted, Refusal>>);

impl Answers {
    fn new(rulings: Vec<Ruling>, placed: Option<&Placed>) -> Self {
        let mut orders = placed.map(|placed| placed.orders.iter()).into_iter().flatten();
        let mut holds = placed.map(|placed| placed.holds.iter()).into_iter().flatten();
        let created_at = placed.map(|placed| placed.created_at);
        let mut answers: Vec<Result<Accepted, Refusal>> = Vec::with_capacity(rulings.len());
        for ruling in rulings {
            let answer = match ruling {
                Ruling::Refused(refusal) => Err(refusal),
                // A first one is always granted.
                Ruling::RepeatOf(first) => match answers.get(first) {
                    Some(Ok(first)) => Ok(repeat_of(first)),
                    _ => Err(Refusal::OutcomeUnknown),
                },
                Ruling::Granted(Grant::Returned) => Ok(Accepted::Returned),
                // As many ids as records come back; the statement makes them so.
                Ruling::Granted(Grant::Order(unit_prices)) => orders
                    .next()
                    .zip(created_at)
                    .map(|(id, created_at)| {
                        Accepted::Order(AcceptedOrder { id: *id, unit_prices, created_at })
                    })
                    .ok_or(Refusal::OutcomeUnknown),
                Ruling::Granted(Grant::Hold(unit_price)) => holds
                    .next()
                    .zip(created_at)
                    .map(|(id, created_at)| {
                        Accepted::Hold(AcceptedHold { id: *id, unit_price, created_at })
                    })
                    .ok_or(Refusal::OutcomeUnknown),
            };
            answers.push(answer);
        }
        Self(answers)
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
