//! Refusing from memory what is known to be sold out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use holdfast_cache::Cache;
use holdfast_domain::{ProductId, Quantity, Shortfall, Stock};
use holdfast_store::Store;
use holdfast_telemetry::Chain;
use tokio::sync::Semaphore;

use crate::{ProductEntry, decision::Refusal, stock_request::StockRequest};

/// The most products that are being read at the same time; others are read after a later refusal.
const READS_MAX: usize = 2;

/// How often one request for a sold-out product goes to a lane all the same, in milliseconds: only a batch with a
/// request for the product returns the units of expired holds.
const PROBE_MS: u64 = 1000;
/// The number of clocks for this, which products share.
const PROBES: usize = 256;

/// The products that are sold out.
#[derive(Clone)]
pub(crate) struct SoldOut<P: ProductEntry> {
    store: Store,
    cache: Cache<P>,
    reads: Arc<Semaphore>,
    started: Instant,
    /// When the last request for a product went to a lane all the same, in milliseconds since the start.
    probed: Arc<[AtomicU64; PROBES]>,
}

impl<P: ProductEntry> SoldOut<P> {
    pub fn new(store: Store, cache: Cache<P>) -> Self {
        Self {
            store,
            cache,
            reads: Arc::new(Semaphore::new(READS_MAX)),
            started: Instant::now(),
            probed: Arc::new(std::array::from_fn(|_| AtomicU64::new(0))),
        }
    }

    /// Refuses a request for more than is known to be left. What is not known is not refused.
    pub fn check(&self, request: &impl StockRequest) -> Result<(), Refusal> {
        request.check_stock(|product_id, quantity| self.check_product(product_id, quantity))
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

    /// Whether it is time for a request for the product to go to a lane.
    fn is_probe(&self, product_id: ProductId) -> bool {
        // The first one of all does.
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

    /// Reads a product into the cache's memory, where its stock is kept up to date from then on,
    /// so that the next orders for it can be refused at once. Never waits.
    pub fn learn(&self, product_id: ProductId) {
        if self.cache.stock_hint(product_id.0).is_some() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.reads).try_acquire_owned() else { return };
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
