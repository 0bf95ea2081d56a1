//! What the worker has in hand, and the upkeep of its claims.

use std::{collections::HashMap, sync::Arc, time::Duration};

use holdfast_domain::OrderId;
use holdfast_queue::{Delivery, Queue};
use holdfast_store::{Store, fulfilment::Claim};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The orders in hand: no more than the worker has hands for.
#[derive(Clone)]
pub(crate) struct Hands {
    free: Arc<Semaphore>,
    held: Arc<Mutex<HashMap<OrderId, (i32, Delivery)>>>,
    count: usize,
}

impl Hands {
    pub fn new(count: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), held: Arc::default(), count }
    }

    /// Waits for a free hand, then says how many are free. Only one task may ask.
    pub async fn free(&self) -> usize {
        if let Ok(permit) = self.free.acquire().await {
            drop(permit);
        }
        self.free.available_permits()
    }

    /// Takes an order in hand. `None` if there is no free hand.
    pub fn take(&self, claim: &Claim, delivery: &Delivery) -> Option<Held> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        self.held.lock().insert(claim.order_id, (claim.attempt, delivery.clone()));
        Some(Held { order_id: claim.order_id, among: Arc::clone(&self.held), _permit: permit })
    }

    /// How many orders are in hand.
    pub fn in_hand(&self) -> usize {
        self.held.lock().len()
    }

    /// Waits until nothing is in hand. Cancellation safe.
    pub async fn empty(&self) {
        let all = u32::try_from(self.count).unwrap_or(u32::MAX);
        if let Ok(permits) = self.free.acquire_many(all).await {
            drop(permits);
        }
    }

    /// Renews the leases of what is in hand, for ever: those in the database, and those of the
    /// queue. One that cannot be renewed is left: its outcome will not be written.
    pub async fn keep_alive(self, store: Store, queue: Queue, consumer: String, lease: Duration) {
        let mut ticks = tokio::time::interval(lease / 3);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (claims, deliveries): (Vec<_>, Vec<_>) = self
                .held
                .lock()
                .iter()
                .map(|(id, (attempt, delivery))| ((*id, *attempt), delivery.clone()))
                .unzip();
            if claims.is_empty() {
                continue;
            }
            match store.extend(&claims, lease).await {
                Ok(kept) if kept.len() < claims.len() => tracing::debug!(
                    lost = claims.len() - kept.len(),
                    "claims ended while their leases were renewed"
                ),
                Ok(_) => {}
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the leases could not be renewed"
                ),
            }
            if let Err(error) = queue.keep_alive(&consumer, &deliveries).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the queue could not be told that the orders are in hand"
                );
            }
        }
    }
}

/// An order in hand; dropping it frees the hand.
pub(crate) struct Held {
    order_id: OrderId,
    among: Arc<Mutex<HashMap<OrderId, (i32, Delivery)>>>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.among.lock().remove(&self.order_id);
    }
}
