//! Returns the units of expired holds that no request needs.
//!
//! A hold expires at its time without a write, and a batch that runs short returns the units of expired holds itself.
//! This task returns the others, so that a product is not shown as sold out for long.
//!
//! Each step returns a limited number of holds, and waits for the previous step. So a batch of a hot product locks its
//! row for no longer than a batch of orders does, and orders that arrive in the meantime are in the next batch, however
//! many holds expire at the same time.

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

/// The most expired holds that one query reads. This is enough for many steps, because a query also reads the index
/// entries of holds that were returned earlier, which an old transaction keeps.
const READ_MAX: u32 = 10_000;

/// The most expired holds of a step, and therefore of a batch.
const STEP_MAX: usize = 500;

/// The longest wait for a product in a step. A product that takes longer is locked or very busy, and is skipped until
/// the next round.
const STEP_WAIT: Duration = Duration::from_millis(500);

/// The most products that are skipped in a round; if there are more, the round ends.
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

    /// Stops the task. Requests that it has put into lanes are served.
    pub fn stop(&self) {
        self.0.abort();
    }
}

impl Drop for HoldExpiry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A round: steps until no more units can be returned now.
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
        // All earlier ones are returned or skipped.
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

/// A step: a request for each product, which waits in a lane like any other. Returns the products of which no hold was
/// returned.
async fn return_step<P: ProductEntry>(lanes: &Lanes<P>, holds: &[ExpiredHold]) -> Vec<ProductId> {
    let mut by_product = BTreeMap::<ProductId, Vec<HoldId>>::new();
    for hold in holds {
        by_product.entry(hold.product_id).or_default().push(hold.id);
    }
    let steps = by_product.into_iter().map(async |(product_id, holds)| {
        let (request, returned) = PendingRequest::new(ExpireHolds { product_id, holds });
        // A product whose lane is full is skipped.
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
