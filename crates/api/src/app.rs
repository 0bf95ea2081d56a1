//! What the endpoints work with.

use std::sync::Arc;

use holdfast_cache::Cache;
use holdfast_store::Store;
use holdfast_telemetry::Readiness;

use crate::{
    admission::Admission, body::BodyLimits, new_order::OrderLimits, products::CachedProduct,
};

/// What the endpoints work with. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<AppParts>);

/// The parts of an [`App`].
pub struct AppParts {
    /// The database.
    pub store: Store,
    /// The product read cache.
    pub cache: Cache<CachedProduct>,
    /// The way to place an order.
    pub admission: Admission,
    /// Whether this process wants requests.
    pub readiness: Readiness,
    /// The limits of a request's body.
    pub body: BodyLimits,
    /// The bounds of orders and holds.
    pub limits: OrderLimits,
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: AppParts) -> Self {
        Self(Arc::new(parts))
    }
}

impl std::ops::Deref for App {
    type Target = AppParts;

    fn deref(&self) -> &AppParts {
        &self.0
    }
}
