//! One batch, from the lock to the answers.

use std::{sync::Arc, time::Instant};

use holdfast_cache::{Cache, FenceGuard, StockChange as CacheChange};
use holdfast_domain::{HoldStatus, Shortfall, StockChange};
use holdfast_store::{Batch, CommitError, LockMode, Outcome, Placed, Store, StoreError};
use holdfast_telemetry::Chain;

use super::{
    AdmissionMetrics, AdmissionSettings, ProductEntry,
    answers::Answers,
    needs::{count_taken, missed, wanted},
    publish::Outbox,
    rule::{Ruling, expire, records, rule, short_of_held},
    sale_watch::SaleWatch,
    sold_out::SoldOut,
    suspect_keys::SuspectKeys,
    ticket::{Accepted, Cause, Missing, Refusal, Row, Ticket},
    trace::BatchTimes,
};

/// How often a batch is tried again because another replica took one of its keys meanwhile. Each
/// time, that key is found and its ticket leaves the batch.
const KEY_TRIES: u8 = 5;

/// Runs batches, for every lane alike.
pub(super) struct Runner<P: ProductEntry> {
    pub settings: AdmissionSettings,
    pub store: Store,
    pub cache: Cache<P>,
    pub sold_out: SoldOut<P>,
    pub sale_watch: SaleWatch,
    pub suspect_keys: SuspectKeys,
    pub outbox: Outbox,
    pub metrics: Arc<AdmissionMetrics>,
}

/// A batch that failed, whole, and before or after its rows were locked.
enum Failed {
    Locking(Vec<Ticket>, StoreError),
    Later(Vec<Ticket>, StoreError),
}

impl<P: ProductEntry> Runner<P> {
    /// Runs all `tickets` and answers their callers. Given back are the tickets that miss a row: somebody
    /// else has it locked, or it does not exist.
    pub async fn run(&self, tickets: &mut Vec<Ticket>, mode: LockMode) -> Vec<Missing> {
        let mut missing = Vec::new();
        let mut batches = vec![(self.admit_to_batch(tickets), 1)];
        while let Some((batch, tries)) = batches.pop() {
            let looked_at = self.suspect_keys.any();
            let batch = self.set_taken_keys_aside(batch, &mut missing).await;
            if batch.is_empty() {
                continue;
            }
            self.metrics.batch_size.observe(to_f64(batch.len()));
            let mut times = BatchTimes::begin(mode, batch.len());
            match self.run_batch(batch, mode, &mut times).await {
                Ok(left_out) => missing.extend(left_out),
                Err(Failed::Later(batch, StoreError::KeyTaken)) if tries < KEY_TRIES => {
                    batches.push((batch, tries + 1));
                }
                // The row of the lane, or somebody has locked the whole table.
                Err(Failed::Locking(batch, StoreError::LockTimeout(error))) => {
                    tracing::debug!(%error, "a lock was waited for in vain");
                    self.blocked(batch, mode, Cause::Locked, &mut missing);
                }
                Err(Failed::Later(batch, StoreError::LockTimeout(error))) => {
                    if !looked_at && batch.iter().any(|ticket| ticket.details.key.is_some()) {
                        self.suspect_keys.suspect();
                        batches.push((batch, tries));
                    } else {
                        tracing::warn!(%error, orders = batch.len(), "the write of a batch waited in vain");
                        self.blocked(batch, mode, Cause::Write, &mut missing);
                    }
                }
                Err(Failed::Locking(mut batch, error) | Failed::Later(mut batch, error))
                    if batch.len() > 1 && !error.is_transient() =>
                {
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
                Err(Failed::Locking(batch, error) | Failed::Later(batch, error)) => {
                    times.tell(&batch, Some(refusal_for(&error).reason()));
                    self.refuse_all(batch, &error);
                }
            }
        }
        missing
    }

    /// All of a batch must wait.
    fn blocked(
        &self,
        batch: Vec<Ticket>,
        mode: LockMode,
        cause: Cause,
        missing: &mut Vec<Missing>,
    ) {
        for ticket in batch {
            // If it is not known what was waited for, the row of the first product stands for it.
            let product_id = match (mode, cause) {
                (LockMode::WaitFor(product_id), Cause::Locked) => Some(product_id),
                _ => ticket.demand.products().next(),
            };
            match product_id {
                Some(id) => missing.push(Missing { ticket, row: Row::Product(id), cause }),
                None => self.refuse(ticket, Refusal::LockTimeout),
            }
        }
    }

    /// While keys are suspected to be written by transactions that do not end, takes those out whose key is, before
    /// any row of a product is locked.
    async fn set_taken_keys_aside(
        &self,
        mut batch: Vec<Ticket>,
        missing: &mut Vec<Missing>,
    ) -> Vec<Ticket> {
        if !self.suspect_keys.any() {
            return batch;
        }
        let keys: Vec<_> = batch.iter().filter_map(|ticket| ticket.details.key).collect();
        if keys.is_empty() {
            return batch;
        }
        match self.store.taken_keys(&keys).await {
            Ok(taken) if taken.is_empty() => batch,
            Ok(taken) => {
                self.suspect_keys.suspect();
                let key = |ticket: &Ticket| {
                    ticket.details.key.map(|key| key.id()).filter(|key| taken.contains(key))
                };
                for ticket in batch.extract_if(.., |ticket| key(ticket).is_some()) {
                    if let Some(key) = key(&ticket) {
                        missing.push(Missing { ticket, row: Row::Key(key), cause: Cause::Locked });
                    }
                }
                batch
            }
            Err(error) => {
                // What is wrong with the database, the batch itself will say.
                tracing::debug!(error = %Chain(&error), "taken keys could not be looked for");
                batch
            }
        }
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
                let locked = ticket.misses > 0;
                self.refuse(ticket, if locked { Refusal::LockTimeout } else { Refusal::Full });
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
        times: &mut BatchTimes,
    ) -> Result<Vec<Missing>, Failed> {
        let asked = Instant::now();
        let batch = self.store.lock_batch(&wanted(&tickets), mode).await;
        let locked = Instant::now();
        // Also in vain: those are the longest.
        if matches!(&batch, Ok(_) | Err(StoreError::LockTimeout(_))) {
            self.metrics.lock_wait(mode, locked - asked);
        }
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => return Err(Failed::Locking(tickets, error)),
        };
        times.locked = Some(locked);
        self.sale_watch.found(batch.shelf().in_sales(), locked - asked);

        self.answer_repeats(&mut tickets, &batch);
        let missing: Vec<Missing> = tickets
            .extract_if(.., |ticket| missed(ticket, &batch, mode).is_some())
            .filter_map(|ticket| {
                let row = missed(&ticket, &batch, mode)?;
                Some(Missing { ticket, row, cause: Cause::Locked })
            })
            .collect();
        match self.admit(batch, tickets, locked, times).await {
            Ok(()) => Ok(missing),
            // Those that were left out share the fate of the batch, or its next try.
            Err((mut tickets, error)) => {
                tickets.extend(missing.into_iter().map(|missing| missing.ticket));
                Err(Failed::Later(tickets, error))
            }
        }
    }

    /// Answers the tickets whose key was used before this batch.
    fn answer_repeats(&self, tickets: &mut Vec<Ticket>, batch: &Batch) {
        for ticket in tickets.extract_if(.., |ticket| earlier(ticket, batch).is_some()) {
            match earlier(&ticket, batch) {
                Some(Ruling::Earlier { kind, id }) => {
                    self.metrics.repeated.inc();
                    ticket.answer(Ok(Accepted::Repeat { kind, id }));
                }
                _ => self.refuse(ticket, Refusal::KeyReused),
            }
        }
    }

    /// Looks up the keys of those that are to be refused once more. They were looked up before the rows
    /// were locked, and whoever had the rows may have been the first with the same key: the second
    /// must hear of its order, not of the stock that the order has taken.
    async fn look_again(
        &self,
        batch: &mut Batch,
        tickets: &[Ticket],
        rulings: &mut [Ruling],
    ) -> Result<(), StoreError> {
        let refused = |(ticket, ruling): (&Ticket, &Ruling)| {
            ticket.details.key.filter(|_| matches!(ruling, Ruling::Refused(_)))
        };
        let keys: Vec<_> = tickets.iter().zip(&*rulings).filter_map(refused).collect();
        if keys.is_empty() {
            return Ok(());
        }
        batch.look_up(&keys).await?;
        for (ticket, ruling) in tickets.iter().zip(rulings) {
            if matches!(ruling, Ruling::Refused(_))
                && let Some(earlier) = earlier(ticket, batch)
            {
                *ruling = earlier;
            }
        }
        Ok(())
    }

    /// From the lock to the answers.
    async fn admit(
        &self,
        mut batch: Batch,
        tickets: Vec<Ticket>,
        locked: Instant,
        times: &mut BatchTimes,
    ) -> Result<(), (Vec<Ticket>, StoreError)> {
        if let Err(error) = count_taken(&mut batch, &tickets).await {
            return Err((tickets, error));
        }
        let mut stock = batch.shelf().clone();
        let mut rulings = rule(&mut stock, &tickets);
        let mut ended = Vec::new();
        let short = short_of_held(batch.shelf(), &rulings);
        if !short.is_empty() {
            let expired = match batch.expired_holds(&short).await {
                Ok(expired) => expired,
                Err(error) => return Err((tickets, error)),
            };
            if !expired.is_empty() {
                stock = batch.shelf().clone();
                ended = expire(&mut stock, expired);
                rulings = rule(&mut stock, &tickets);
            }
        }
        if let Err(error) = self.look_again(&mut batch, &tickets, &mut rulings).await {
            return Err((tickets, error));
        }
        let records = records(&tickets, &rulings, ended);
        // The records say whether there is anything to keep, never the stock: a release and a hold of the same
        // size leave the stock as it was, and both are to be written.
        if records.is_empty() {
            if let Err(error) = batch.release().await {
                tracing::debug!(error = %Chain(&error), "the connection broke after an empty batch");
            }
            times.tell(&tickets, None);
            drop(records);
            self.answer(tickets, rulings, None);
            return Ok(());
        }

        let changes = stock.changes();
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
        times.written = Some(committing);
        let committed = written.commit().await;
        let done = Instant::now();
        times.committed = Some(done);
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
                    times.tell(&tickets, Some(refusal.reason()));
                    for ticket in tickets {
                        self.refuse(ticket, refusal);
                    }
                    return Ok(());
                }
            },
        };
        self.metrics.hottest(&changes);
        self.tell_cache(raised, &changes);
        self.metrics.holds_expired.inc_by(
            records.ended.iter().filter(|ended| ended.status == HoldStatus::Expired).count() as u64,
        );
        times.tell(&tickets, None);
        self.answer(tickets, rulings, Some(&placed));
        Ok(())
    }

    /// Keeps the stock in mind of what is sold. Units that come back to a retired product must not bring
    /// it to mind: it would be refused as sold out and not as unknown.
    fn tell_cache(&self, raised: FenceGuard<P>, changes: &[StockChange]) {
        let (sold, retired): (Vec<_>, Vec<_>) = changes.iter().partition(|it| it.on_sale);
        raised.committed(&sold.into_iter().map(cache_change).collect::<Vec<_>>());
        if !retired.is_empty() {
            let retired: Vec<_> =
                retired.iter().map(|change| (change.product_id.0, change.version)).collect();
            self.cache.changed(&retired);
        }
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

    pub fn refuse_all(&self, tickets: Vec<Ticket>, error: &StoreError) {
        tracing::warn!(
            error = %Chain(error),
            orders = tickets.len(),
            "a batch was not admitted"
        );
        let refusal = refusal_for(error);
        for ticket in tickets {
            self.refuse(ticket, refusal);
        }
    }

    /// Refuses a request. It is counted where its caller hears of it.
    pub fn refuse(&self, ticket: Ticket, refusal: Refusal) {
        if let Refusal::Short(Shortfall::NotEnough { product_id, .. }) = refusal {
            self.sold_out.learn(product_id);
        }
        ticket.answer(Err(refusal));
    }
}

/// What the callers of a batch that failed are told.
fn refusal_for(error: &StoreError) -> Refusal {
    match error {
        StoreError::LockTimeout(_) => Refusal::LockTimeout,
        error if error.is_transient() => Refusal::Unavailable,
        _ => Refusal::Internal,
    }
}

/// What the key of a ticket has led to, as far as the batch knows.
fn earlier(ticket: &Ticket, batch: &Batch) -> Option<Ruling> {
    let key = ticket.details.key?;
    let result = batch.keyed(&key)?;
    Some(if key.led_to(result) && ticket.kind() == Some(result.kind) {
        Ruling::Earlier { kind: result.kind, id: result.id }
    } else {
        Ruling::Refused(Refusal::KeyReused)
    })
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
