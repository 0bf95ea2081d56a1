//! Giving back what expired holds kept, as fast as batches go.
//!
//! Only hygiene: what ends a hold is its time, and a lane that runs short looks for expired holds
//! by itself. This brings their units back when nobody asks for them, so that a product does not
//! read as sold out for long.
//!
//! It goes in steps of a bounded number of holds, and a step waits for the one before. So a batch of a hot
//! product holds its row for no longer than a batch of orders, and orders that come meanwhile are in the
//! next batch, however many holds end together.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use holdfast_domain::{Demand, HoldId, ProductId};
use holdfast_store::{ExpiredHold, Store};
use holdfast_telemetry::Chain;
use jiff::Timestamp;
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, timeout},
};

use super::{
    ProductEntry,
    lanes::Lanes,
    ticket::{Accepted, Details, Ticket},
};

/// The most expired holds that are looked for at once. Many steps, because each look passes over what the index still
/// has of those before it, which is all of them while an old transaction is open.
const LOOK_MAX: u32 = 10_000;

/// The most expired holds of one step, and so of one batch.
const STEP_MAX: usize = 500;

/// The longest wait for a product in one step. One that takes longer is locked by others or very busy: it is
/// left out until the next time.
const STEP_WAIT: Duration = Duration::from_millis(500);

/// The most products that are left out in one round; with more, the round ends.
const LEFT_OUT_MAX: usize = 1000;

/// The task that looks for expired holds.
pub(super) struct Expiry(JoinHandle<()>);

impl Expiry {
    pub fn start<P: ProductEntry>(store: Store, lanes: Arc<Lanes<P>>, interval: Duration) -> Self {
        Self(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                give_back_all(&store, &lanes).await;
            }
        }))
    }

    /// Ends the task. Demands that it has put into lanes are served.
    pub fn stop(&self) {
        self.0.abort();
    }
}

impl Drop for Expiry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One round: step after step until nothing is left that can come back now.
async fn give_back_all<P: ProductEntry>(store: &Store, lanes: &Lanes<P>) {
    let mut since = None;
    let mut left_out = Vec::new();
    while left_out.len() < LEFT_OUT_MAX {
        let holds = match store.expired_holds(since, &left_out, LOOK_MAX).await {
            Ok(holds) => holds,
            Err(error) => {
                tracing::debug!(error = %Chain(&error), "expired holds could not be looked for");
                return;
            }
        };
        let Some(oldest) = holds.first() else { return };
        // All before this one are back or left out.
        since = Some::<Timestamp>(oldest.expired_at);
        let mut rest = &holds[..];
        while !rest.is_empty() && left_out.len() < LEFT_OUT_MAX {
            let (step, later) = rest.split_at(rest.len().min(STEP_MAX));
            rest = later;
            let wanted = step.iter().filter(|hold| !left_out.contains(&hold.product_id));
            let wanted: Vec<_> = wanted.copied().collect();
            left_out.extend(give_back(lanes, &wanted).await);
        }
    }
}

/// One step: each product gets a demand in its lane, like anybody's. Gives back the products of which
/// nothing came back.
async fn give_back<P: ProductEntry>(lanes: &Lanes<P>, holds: &[ExpiredHold]) -> Vec<ProductId> {
    let mut by_product = BTreeMap::<ProductId, Vec<HoldId>>::new();
    for hold in holds {
        by_product.entry(hold.product_id).or_default().push(hold.id);
    }
    let back = by_product.into_iter().map(async |(product_id, holds)| {
        let (ticket, verdict) =
            Ticket::new(Demand::Expire { product_id, holds }, Details::default());
        // A lane that is full is busy enough.
        if lanes.send(ticket).is_err() {
            return Some(product_id);
        }
        match timeout(STEP_WAIT, verdict).await {
            Ok(Ok(Ok(Accepted::Expired { holds }))) if holds > 0 => None,
            _ => Some(product_id),
        }
    });
    futures::future::join_all(back).await.into_iter().flatten().collect()
}
