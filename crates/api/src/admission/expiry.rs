//! Giving back what expired holds kept, at a steady pace.
//!
//! Only hygiene: what ends a hold is its time, and a lane that runs short looks for expired holds
//! by itself. This brings their units back when nobody asks for them, so that a product does not
//! read as sold out for long.

use std::{sync::Arc, time::Duration};

use holdfast_domain::Demand;
use holdfast_store::Store;
use holdfast_telemetry::Chain;
use tokio::{task::JoinHandle, time::MissedTickBehavior};

use super::{
    lanes::Lanes,
    ticket::{Details, Ticket},
};

/// The most expired holds that are looked at in one step.
const LOOK_MAX: u32 = 1000;

/// The task that looks for expired holds.
pub(super) struct Expiry(JoinHandle<()>);

impl Expiry {
    pub fn start(store: Store, lanes: Arc<Lanes>, interval: Duration) -> Self {
        Self(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                give_back(&store, &lanes).await;
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

/// One step: each product with expired holds gets a demand in its lane, like anybody's.
async fn give_back(store: &Store, lanes: &Lanes) {
    let products = match store.products_with_expired_holds(LOOK_MAX).await {
        Ok(products) => products,
        Err(error) => {
            tracing::debug!(error = %Chain(&error), "expired holds could not be looked for");
            return;
        }
    };
    let mut verdicts = Vec::with_capacity(products.len());
    for product_id in products {
        let (ticket, verdict) = Ticket::new(Demand::Expire(product_id), Details::default());
        // A lane that is full is busy enough; the next step comes soon.
        if lanes.send(ticket).is_ok() {
            verdicts.push(verdict);
        }
    }
    // Whatever the verdict: what was not given back is found again.
    futures::future::join_all(verdicts).await;
}
