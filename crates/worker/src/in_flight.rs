//! The orders in flight, their concurrency limit, and the renewal of their leases.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use holdfast_domain::OrderId;
use holdfast_queue::{Delivery, Queue};
use holdfast_store::Store;
use holdfast_telemetry::metrics::IntGauge;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
};

/// A claim: an order and the attempt. After its lease has expired, the same worker may claim the same order again while it
/// still works on the first claim.
pub(crate) type ClaimId = (OrderId, i32);

struct ClaimWork {
    delivery: Delivery,
    /// The task that fulfils the order, once there is one.
    task: Option<AbortHandle>,
}

type ClaimTable = Arc<Mutex<HashMap<ClaimId, ClaimWork>>>;

/// Lets no more orders be in flight than the worker may fulfil at the same time.
#[derive(Clone)]
pub(crate) struct ConcurrencyLimit {
    free: Arc<Semaphore>,
    claims: ClaimTable,
    limit: usize,
    /// Shows the number of orders in flight.
    gauge: IntGauge,
}

impl ConcurrencyLimit {
    pub fn new(limit: usize, gauge: IntGauge) -> Self {
        Self { free: Arc::new(Semaphore::new(limit)), claims: Arc::default(), limit, gauge }
    }

    /// Waits for a free slot, then returns the number of free slots. Only one task may call it at a time.
    pub async fn free(&self) -> usize {
        if let Ok(permit) = self.free.acquire().await {
            drop(permit);
        }
        self.free.available_permits()
    }

    /// Occupies a slot with a claimed order; `None` if no slot is free.
    pub fn occupy(&self, id: ClaimId, delivery: &Delivery) -> Option<InFlightOrder> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        self.claims.lock().insert(id, ClaimWork { delivery: delivery.clone(), task: None });
        self.gauge.inc();
        Some(InFlightOrder {
            id,
            claims: Arc::clone(&self.claims),
            gauge: self.gauge.clone(),
            _permit: permit,
        })
    }

    /// Sets the task that works on a claim; it is aborted if the claim is lost. Does nothing if the claim is no longer in
    /// flight.
    pub fn set_task(&self, id: ClaimId, task: AbortHandle) {
        if let Some(work) = self.claims.lock().get_mut(&id) {
            work.task = Some(task);
        }
    }

    /// The number of orders in flight.
    pub fn in_flight(&self) -> usize {
        self.claims.lock().len()
    }

    /// Waits until no order is in flight. Cancellation safe.
    pub async fn idle(&self) {
        let all = u32::try_from(self.limit).unwrap_or(u32::MAX);
        if let Ok(permits) = self.free.acquire_many(all).await {
            drop(permits);
        }
    }

    /// Renews the leases of the orders in flight for ever, in the database and in the queue. Aborts the work on lost claims:
    /// another worker does it.
    pub async fn keep_alive(self, store: Store, queue: Queue, consumer: String, lease: Duration) {
        let mut ticks = tokio::time::interval(lease / 3);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let claims: Vec<_> = self.claims.lock().keys().copied().collect();
            if claims.is_empty() {
                continue;
            }
            let kept: HashSet<_> = match store.extend(&claims, lease).await {
                // A claim whose row is locked is still valid and is renewed the next time. If its lease expires before
                // that, a later attempt may take the order over; the attempt number then keeps this one from writing.
                Ok(renewed) => renewed.done.into_iter().chain(renewed.locked).collect(),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the leases could not be renewed"
                    );
                    // The claims may or may not be valid: neither abort the work nor renew the messages.
                    continue;
                }
            };
            // If an order is claimed twice here, the earlier claim is lost.
            let mut latest = HashMap::new();
            for (order, attempt) in claims.iter().filter(|(order, _)| kept.contains(order)) {
                let newest = latest.entry(*order).or_insert(*attempt);
                *newest = (*newest).max(*attempt);
            }
            let deliveries = self.abort_lost(&claims, &latest);
            if let Err(error) = queue.keep_alive(&consumer, &deliveries).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the messages of the orders in flight could not be renewed in the queue"
                );
            }
        }
    }

    /// Aborts the work on lost claims, and returns the messages of the others.
    fn abort_lost(&self, claims: &[ClaimId], valid: &HashMap<OrderId, i32>) -> Vec<Delivery> {
        let (mut deliveries, mut lost) = (Vec::with_capacity(claims.len()), Vec::new());
        {
            let current = self.claims.lock();
            // Claims that have ended since then are missing here, or their task has finished.
            for (id, work) in claims.iter().filter_map(|id| Some((id, current.get(id)?))) {
                if valid.get(&id.0) == Some(&id.1) {
                    deliveries.push(work.delivery.clone());
                } else if let Some(task) = &work.task
                    && !task.is_finished()
                {
                    lost.push(task.clone());
                }
            }
        }
        if !lost.is_empty() {
            tracing::warn!(orders = lost.len(), "claims were lost; their work is aborted");
        }
        for task in lost {
            task.abort();
        }
        deliveries
    }
}

/// An order in flight. Dropping it frees its slot.
pub(crate) struct InFlightOrder {
    id: ClaimId,
    claims: ClaimTable,
    gauge: IntGauge,
    _permit: OwnedSemaphorePermit,
}

impl Drop for InFlightOrder {
    fn drop(&mut self) {
        self.claims.lock().remove(&self.id);
        self.gauge.dec();
    }
}
