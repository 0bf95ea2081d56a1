//! The shared state of the endpoints.

use std::sync::Arc;

use holdfast_admission::Admission;
use holdfast_cache::Cache;
use holdfast_store::Store;
use holdfast_telemetry::Readiness;

use crate::{
    body::BodyLimits, console::Console, limits::OrderLimits, page_memory::PageMemory,
    products::CachedProduct,
};

/// The shared state of the endpoints. Cheap to clone.
#[derive(Clone)]
pub struct App {
    parts: Arc<AppParts>,
    /// The memory budget of pages of lists.
    pub pages: PageMemory,
}

/// The parts of an [`App`].
pub struct AppParts {
    /// The database.
    pub store: Store,
    /// The product read cache.
    pub cache: Cache<CachedProduct>,
    /// Admission of orders and holds.
    pub admission: Admission<CachedProduct>,
    /// Whether this process is ready for requests.
    pub readiness: Readiness,
    /// The limits of request bodies.
    pub body: BodyLimits,
    /// The bounds of orders and holds.
    pub limits: OrderLimits,
    /// The console, if it is on.
    pub console: Option<Console>,
}

impl App {
    /// Assembles the parts.
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
