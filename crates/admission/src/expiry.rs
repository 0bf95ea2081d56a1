//! Returning the units of expired holds when no request needs them.
//!
//! A hold ends by its time alone, and a batch that runs short returns the units of expired holds itself. This task
//! returns the others, so that a product does not read as sold out for long.
//!
//! Each step returns a bounded number of holds and waits for the step before. So a batch of a hot product locks its row
//! for no longer than a batch of orders does, and orders that come meanwhile are in the next batch, whatever the
//! number of holds that end together.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use holdfast_domain::{HoldId, ProductId};
use holdfast_store::{ExpiredHold, Store};
use holdfast_telemetry::Chain;
use jiff::Timestamp;
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, timeout},
};

use crate::{ProductEntry, lanes::Lanes, pending::PendingRequest, stock_request::ExpireHolds};

/// The most expired holds that one query reads. This is many steps, because a query also passes the index entries of
/// holds that were returned before; an old transaction keeps all of these.
const READ_MAX: u32 = 10_000;

/// The most expired holds of one step, and so of one batch.
const STEP_MAX: usize = 500;

/// The longest wait for a product in one step. One that takes longer is locked by others or very busy, and is
/// left out until the next round.
const STEP_WAIT: Duration = Duration::from_millis(500);

/// The most products that are left out in one round; with more, the round ends.
const LEFT_OUT_MAX: usize = 1000;

/// The task that returns expired holds.
pub(crate) struct HoldExpiry(JoinHandle<()>);

impl HoldExpiry {
    pub fn start<P: ProductEntry>(store: Store, lanes: Arc<Lanes<P>>, interval: Duration) -> Self {
        Self(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                return_all(&store, &lanes).await;
            }
        }))
    }

    /// Ends the task. Requests that it has put into lanes are served.
    pub fn stop(&self) {
        self.0.abort();
    }
}

impl Drop for HoldExpiry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One round: step after step until nothing is left that can be returned now.
async fn return_all<P: ProductEntry>(store: &Store, lanes: &Lanes<P>) {
    let mut since = None;
    let mut left_out = Vec::new();
    while left_out.len() < LEFT_OUT_MAX {
        let holds = match store.expired_holds(since, &left_out, READ_MAX).await {
            Ok(holds) => holds,
            Err(error) => {
                tracing::debug!(error = %Chain(&error), "expired holds could not be read");
                return;
            }
        };
        let Some(oldest) = holds.first() else { return };
        // All before this one are returned or left out.
        since = Some::<Timestamp>(oldest.expired_at);
        let mut rest = &holds[..];
        while !rest.is_empty() && left_out.len() < LEFT_OUT_MAX {
            let (step, later) = rest.split_at(rest.len().min(STEP_MAX));
            rest = later;
            let wanted = step.iter().filter(|hold| !left_out.contains(&hold.product_id));
            let wanted: Vec<_> = wanted.copied().collect();
            left_out.extend(return_step(lanes, &wanted).await);
        }
    }
}

/// One step: a request for each product, which waits in a lane like any other. Gives the products of which
/// no hold was returned.
async fn return_step<P: ProductEntry>(lanes: &Lanes<P>, holds: &[ExpiredHold]) -> Vec<ProductId> {
    let mut by_product = BTreeMap::<ProductId, Vec<HoldId>>::new();
    for hold in holds {
        by_product.entry(hold.product_id).or_default().push(hold.id);
    }
    let steps = by_product.into_iter().map(async |(product_id, holds)| {
        let (request, returned) = PendingRequest::new(ExpireHolds { product_id, holds });
        // A lane that is full has enough to do.
        if lanes.send(request).is_err() {
            return Some(product_id);
        }
        match timeout(STEP_WAIT, returned).await {
            Ok(Ok(Ok(holds))) if holds > 0 => None,
            _ => Some(product_id),
        }
    });
    futures::future::join_all(steps).await.into_iter().flatten().collect()
}
