//! Refusing from memory what is known not to be there.

use std::sync::Arc;

use holdfast_cache::Cache;
use holdfast_domain::{Demand, ProductId, Stock};
use holdfast_store::Store;
use holdfast_telemetry::Chain;
use tokio::sync::Semaphore;

use super::Refusal;
use crate::products::CachedProduct;

/// The most products that are being learnt at the same time; others are learnt a refusal later.
const LEARNING_MAX: usize = 2;

/// What this process knows of products that run out.
#[derive(Clone)]
pub(super) struct SoldOut {
    store: Store,
    cache: Cache<CachedProduct>,
    learning: Arc<Semaphore>,
}

impl SoldOut {
    pub fn new(store: Store, cache: Cache<CachedProduct>) -> Self {
        Self { store, cache, learning: Arc::new(Semaphore::new(LEARNING_MAX)) }
    }

    /// Refuses an order for more than is known to be left. What is not known is not refused.
    pub fn check(&self, demand: &Demand) -> Result<(), Refusal> {
        match self.cache.stock_hint(demand.product_id.0) {
            Some((_, stock)) if stock < i64::from(demand.quantity.units()) => {
                Err(Stock::new(stock).map_or(Refusal::Internal, |left| Refusal::NotEnough { left }))
            }
            _ => Ok(()),
        }
    }

    /// Brings a product into the cache's memory, where its stock is kept up to date from then on,
    /// so that the next orders for it can be refused at once. Never waits.
    pub fn learn(&self, product_id: ProductId) {
        if self.cache.stock_hint(product_id.0).is_some() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.learning).try_acquire_owned() else { return };
        let Self { store, cache, .. } = self.clone();
        tokio::spawn(async move {
            let load = async || {
                store.product(product_id).await.map(|found| found.map(CachedProduct::from))
            };
            if let Err(error) = cache.get(product_id.0, load).await {
                tracing::debug!(error = %Chain(&error), "a sold-out product could not be read");
            }
            drop(permit);
        });
    }
}
