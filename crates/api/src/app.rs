//! What the endpoints work with.

use std::sync::Arc;

use holdfast_admission::Admission;
use holdfast_cache::Cache;
use holdfast_store::Store;
use holdfast_telemetry::Readiness;

use crate::{
    body::BodyLimits, console::Console, limits::OrderLimits, page_memory::PageMemory,
    products::CachedProduct,
};

/// What the endpoints work with. Cheap to clone.
#[derive(Clone)]
pub struct App {
    parts: Arc<AppParts>,
    /// The memory of pages of lists.
    pub pages: PageMemory,
}

/// The parts of an [`App`].
pub struct AppParts {
    /// The database.
    pub store: Store,
    /// The product read cache.
    pub cache: Cache<CachedProduct>,
    /// The way to place an order.
    pub admission: Admission<CachedProduct>,
    /// Whether this process wants requests.
    pub readiness: Readiness,
    /// The limits of a request's body.
    pub body: BodyLimits,
    /// The bounds of orders and holds.
    pub limits: OrderLimits,
    /// What the console shows, if it is on.
    pub console: Option<Console>,
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: AppParts) -> Self {
        Self { parts: Arc::new(parts), pages: PageMemory::leak() }
    }
}

impl std::ops::Deref for App {
    type Target = AppParts;

    fn deref(&self) -> &AppParts {
        &self.parts
    }
}
