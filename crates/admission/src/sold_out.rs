//! Refuses requests for sold-out products from memory.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use holdfast_cache::{Cache, LoadError};
use holdfast_domain::{ProductId, Quantity, Shortfall, Stock};
use holdfast_store::{NextExpiry, Store};
use holdfast_telemetry::Chain;
use parking_lot::RwLock;
use tokio::sync::Semaphore;

use crate::{ProductEntry, decision::Refusal, stock_request::StockRequest};

/// The most products that are being read at the same time; others are read after a later refusal.
const READS_MAX: usize = 2;

/// The most products for which it is remembered when units may come back from holds.
const EXPIRIES_MAX: usize = 10_000;

/// One request for a sold-out product still goes to a lane in each period of this length, in milliseconds, so that
/// wrong information in memory is corrected.
const PROBE_MS: u64 = 1000;
/// The number of clocks for these probes. Products share them.
const PROBES: usize = 256;

/// The products that are sold out.
#[derive(Clone)]
pub(crate) struct SoldOut<P: ProductEntry> {
    store: Store,
    cache: Cache<P>,
    reads: Arc<Semaphore>,
    started: Instant,
    /// When the last request for a product went to a lane, in milliseconds since the start.
    probed: Arc<[AtomicU64; PROBES]>,
    expiries: Arc<RwLock<HashMap<ProductId, KnownExpiry>>>,
}

/// The holds of a product, as far as they are known. A batch returns the units of expired holds if it gets a request
/// for them.
#[derive(Clone, Copy)]
struct KnownExpiry {
    /// The version of the product for which this is valid, because a later hold creates another version.
    version: i64,
    /// No hold expires before this time. `None`: there are no holds.
    next: Option<Instant>,
}

impl<P: ProductEntry> SoldOut<P> {
    pub fn new(store: Store, cache: Cache<P>) -> Self {
        Self {
            store,
            cache,
            reads: Arc::new(Semaphore::new(READS_MAX)),
            started: Instant::now(),
            probed: Arc::new(std::array::from_fn(|_| AtomicU64::new(0))),
            expiries: Arc::default(),
        }
    }

    /// Refuses a request for more than the known stock. If the stock is unknown, the request is not refused.
    pub fn check(&self, request: &impl StockRequest) -> Result<(), Refusal> {
        request.taken_from_stock().try_for_each(|(id, quantity)| self.check_product(id, quantity))
    }

    fn check_product(&self, product_id: ProductId, quantity: Quantity) -> Result<(), Refusal> {
        match self.cache.stock_hint(product_id.0) {
            Some((version, stock))
                if stock < i64::from(quantity.units())
                    && self.has_no_expired_holds(product_id, version)
                    && !self.is_probe(product_id) =>
            {
                Err(Stock::new(stock).map_or(Refusal::Internal, |left| {
                    Refusal::Short(Shortfall::NotEnough { product_id, left })
                }))
            }
            _ => Ok(()),
        }
    }

    /// Whether it is known that no expired holds have units of the product at this version.
    fn has_no_expired_holds(&self, product_id: ProductId, version: i64) -> bool {
        self.expiries.read().get(&product_id).is_some_and(|known| {
            known.version == version && known.next.is_none_or(|next| Instant::now() < next)
        })
    }

    /// Whether a request for the product should go to a lane now.
    fn is_probe(&self, product_id: ProductId) -> bool {
        // So that the first request is a probe.
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

    /// Reads a product into the cache's memory, where its stock is kept up to date from then on, and finds out when
    /// units may come back from holds, so that the next orders can be refused immediately. Never waits.
    pub fn learn(&self, product_id: ProductId) {
        let hint = self.cache.stock_hint(product_id.0);
        if hint.is_some_and(|(version, _)| self.has_no_expired_holds(product_id, version)) {
            return;
        }
        let Ok(permit) = Arc::clone(&self.reads).try_acquire_owned() else { return };
        let sold_out = self.clone();
        tokio::spawn(async move {
            if let Err(error) = sold_out.read(product_id).await {
                tracing::debug!(error = %Chain(&error), "a sold-out product could not be read");
            }
            drop(permit);
        });
    }

    async fn read(&self, product_id: ProductId) -> Result<(), LoadError> {
        let load = async || self.store.product(product_id).await.map(|found| found.map(P::from));
        self.cache.get(product_id.0, load).await?;
        let asked = Instant::now();
        let expiry = self.store.next_expiry(product_id).await;
        let expiry = expiry.map_err(|error| -> LoadError { Arc::new(error) })?;
        let Some(NextExpiry { version, after }) = expiry else { return Ok(()) };
        let mut expiries = self.expiries.write();
        if expiries.len() >= EXPIRIES_MAX {
            expiries.clear();
        }
        expiries
            .insert(product_id, KnownExpiry { version, next: after.map(|after| asked + after) });
        Ok(())
    }
}
