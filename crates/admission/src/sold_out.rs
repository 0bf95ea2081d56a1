//! Refusing from memory what is known to be sold out.

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

/// The most products of which it is known when units may come back from holds.
const EXPIRIES_MAX: usize = 10_000;

/// How often one request for a sold-out product goes to a lane all the same, in milliseconds: should what is known be
/// wrong, it does not stay so.
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
    expiries: Arc<RwLock<HashMap<ProductId, KnownExpiry>>>,
}

/// What is known of a product's holds. A batch returns the units of expired ones, if a request for them comes to it.
#[derive(Clone, Copy)]
struct KnownExpiry {
    /// The version of the product for which this holds: a later hold makes another version.
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

    /// Refuses a request for more than is known to be left. What is not known is not refused.
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

    /// Whether no units can be had from expired holds at this version of the product, as far as is known.
    fn has_no_expired_holds(&self, product_id: ProductId, version: i64) -> bool {
        self.expiries.read().get(&product_id).is_some_and(|known| {
            known.version == version && known.next.is_none_or(|next| Instant::now() < next)
        })
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

    /// Reads a product into the cache's memory, where its stock is kept up to date from then on, and finds out when
    /// units may come back from holds, so that the next orders for it can be refused at once. Never waits.
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
