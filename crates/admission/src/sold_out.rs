//! Refusing from memory what is known not to be there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use holdfast_cache::Cache;
use holdfast_domain::{Demand, ProductId, Quantity, Shortfall, Stock};
use holdfast_store::Store;
use holdfast_telemetry::Chain;
use tokio::sync::Semaphore;

use super::{ProductEntry, Refusal};

/// The most products that are being learnt at the same time; others are learnt a refusal later.
const LEARNING_MAX: usize = 2;

/// How often one demand for a sold-out product is let through all the same, in milliseconds. Units of an
/// expired hold come back in a lane, and only if somebody asks there.
const PROBE_MS: u64 = 1000;
/// Products share this many clocks for it.
const PROBES: usize = 256;

/// What this process knows of products that run out.
#[derive(Clone)]
pub(super) struct SoldOut<P: ProductEntry> {
    store: Store,
    cache: Cache<P>,
    learning: Arc<Semaphore>,
    started: Instant,
    /// When the last demand for a product was let through, in milliseconds since the start.
    probed: Arc<[AtomicU64; PROBES]>,
}

impl<P: ProductEntry> SoldOut<P> {
    pub fn new(store: Store, cache: Cache<P>) -> Self {
        Self {
            store,
            cache,
            learning: Arc::new(Semaphore::new(LEARNING_MAX)),
            started: Instant::now(),
            probed: Arc::new(std::array::from_fn(|_| AtomicU64::new(0))),
        }
    }

    /// Refuses a demand for more than is known to be left. What is not known is not refused.
    pub fn check(&self, demand: &Demand) -> Result<(), Refusal> {
        match demand {
            Demand::Order(lines) => lines
                .iter()
                .filter(|line| line.hold.is_none())
                .try_for_each(|line| self.check_product(line.product_id, line.quantity)),
            Demand::Hold { product_id, quantity, .. } => self.check_product(*product_id, *quantity),
            Demand::Cancel { .. } | Demand::Release { .. } | Demand::Expire { .. } => Ok(()),
        }
    }

    fn check_product(&self, product_id: ProductId, quantity: Quantity) -> Result<(), Refusal> {
        match self.cache.stock_hint(product_id.0) {
            Some((_, stock))
                if stock < i64::from(quantity.units()) && !self.is_probe(product_id) =>
            {
                Err(Stock::new(stock).map_or(Refusal::Internal, |left| {
                    Refusal::Short(Shortfall::NotEnough { product_id, left })
                }))
            }
            _ => Ok(()),
        }
    }

    /// Whether it is time to ask for the product in the lane again.
    fn is_probe(&self, product_id: ProductId) -> bool {
        // The first one of all is let through.
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let now = now.saturating_add(PROBE_MS);
        let at = product_id.0.unsigned_abs() % PROBES as u64;
        let Some(probed) = usize::try_from(at).ok().and_then(|at| self.probed.get(at)) else {
            return false;
        };
        let last = probed.load(Ordering::Relaxed);
        now.saturating_sub(last) >= PROBE_MS
            && probed.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Brings a product into the cache's memory, where its stock is kept up to date from then on,
    /// so that the next orders for it can be refused at once. Never waits.
    pub fn learn(&self, product_id: ProductId) {
        if self.cache.stock_hint(product_id.0).is_some() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.learning).try_acquire_owned() else { return };
        let (store, cache) = (self.store.clone(), self.cache.clone());
        tokio::spawn(async move {
            let load = async || store.product(product_id).await.map(|found| found.map(P::from));
            if let Err(error) = cache.get(product_id.0, load).await {
                tracing::debug!(error = %Chain(&error), "a sold-out product could not be read");
            }
            drop(permit);
        });
    }
}
