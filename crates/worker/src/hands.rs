//! What the worker has in hand, and the renewal of its claims.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use holdfast_domain::OrderId;
use holdfast_queue::{Delivery, Queue};
use holdfast_store::Store;
use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
};

/// A claim: an order and the attempt. After its lease has run out, the same worker may come to
/// claim the same order once more while the first claim is still worked on.
pub(crate) type ClaimId = (OrderId, i32);

/// What is known of a claim in hand.
struct Hand {
    delivery: Delivery,
    /// The task that works on it, once there is one.
    task: Option<AbortHandle>,
}

type Held = Arc<Mutex<HashMap<ClaimId, Hand>>>;

/// The orders in hand: no more than the worker has hands for.
#[derive(Clone)]
pub(crate) struct Hands {
    free: Arc<Semaphore>,
    held: Held,
    count: usize,
    /// How many are in hand.
    shown: IntGauge,
}

impl Hands {
    pub fn new(count: usize, shown: IntGauge) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), held: Arc::default(), count, shown }
    }

    /// Waits for a free hand, then says how many are free. Only one task may ask.
    pub async fn free(&self) -> usize {
        if let Ok(permit) = self.free.acquire().await {
            drop(permit);
        }
        self.free.available_permits()
    }

    /// Takes an order in hand. `None` if there is no free hand.
    pub fn take(&self, id: ClaimId, delivery: &Delivery) -> Option<InHand> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        self.held.lock().insert(id, Hand { delivery: delivery.clone(), task: None });
        self.shown.inc();
        Some(InHand {
            id,
            among: Arc::clone(&self.held),
            shown: self.shown.clone(),
            _permit: permit,
        })
    }

    /// Says which task works on a claim; it is ended if the claim is lost. Does nothing if the
    /// claim is not in hand any more.
    pub fn worked_on_by(&self, id: ClaimId, task: AbortHandle) {
        if let Some(hand) = self.held.lock().get_mut(&id) {
            hand.task = Some(task);
        }
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
    /// queue. Work whose claim is lost is ended: somebody else does it.
    pub async fn keep_alive(self, store: Store, queue: Queue, consumer: String, lease: Duration) {
        let mut ticks = tokio::time::interval(lease / 3);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let claims: Vec<_> = self.held.lock().keys().copied().collect();
            if claims.is_empty() {
                continue;
            }
            let kept: HashSet<_> = match store.extend(&claims, lease).await {
                // A claim whose row is locked still holds. It is renewed with the next ones: should its lease
                // run out first, a later attempt may take the order over, and the attempt's number keeps this
                // one from writing then.
                Ok(renewed) => renewed.done.into_iter().chain(renewed.locked).collect(),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the leases could not be renewed"
                    );
                    // Whether they still hold is not known: neither ended nor kept from others.
                    continue;
                }
            };
            // Where two claims on one order are in hand, the earlier is lost.
            let mut latest = HashMap::new();
            for (order, attempt) in claims.iter().filter(|(order, _)| kept.contains(order)) {
                let of = latest.entry(*order).or_insert(*attempt);
                *of = (*of).max(*attempt);
            }
            let deliveries = self.sort(&claims, &latest);
            if let Err(error) = queue.keep_alive(&consumer, &deliveries).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the queue could not be told that the orders are in hand"
                );
            }
        }
    }

    /// Ends the work on claims that are lost, and gives the messages of the others.
    fn sort(&self, claims: &[ClaimId], holding: &HashMap<OrderId, i32>) -> Vec<Delivery> {
        let (mut deliveries, mut lost) = (Vec::with_capacity(claims.len()), Vec::new());
        {
            let held = self.held.lock();
            // What was finished in the meantime is not in hand any more, or its task has ended.
            for (id, hand) in claims.iter().filter_map(|id| Some((id, held.get(id)?))) {
                if holding.get(&id.0) == Some(&id.1) {
                    deliveries.push(hand.delivery.clone());
                } else if let Some(task) = &hand.task
                    && !task.is_finished()
                {
                    lost.push(task.clone());
                }
            }
        }
        if !lost.is_empty() {
            tracing::warn!(orders = lost.len(), "claims were lost; the work on them is ended");
        }
        for task in lost {
            task.abort();
        }
        deliveries
    }
}

/// An order in hand; dropping it frees the hand.
pub(crate) struct InHand {
    id: ClaimId,
    among: Held,
    shown: IntGauge,
    _permit: OwnedSemaphorePermit,
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.among.lock().remove(&self.id);
        self.shown.dec();
    }
}
