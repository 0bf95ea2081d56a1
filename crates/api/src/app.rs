//! The shared state of the endpoints.

use std::{sync::Arc, time::Duration};

use holdfast_admission::{Admission, AdmissionMetrics, AdmissionSettings};
use holdfast_cache::Cache;
use holdfast_queue::{Publisher, QueueSettings};
use holdfast_store::Store;
use holdfast_telemetry::{Readiness, registry};

use crate::{
    body::BodyLimits, byte_budget::ByteBudget, console::Console, limits::OrderLimits,
    page_memory::PageMemory, products::CachedProduct,
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
    /// The same for reads that a read replica may serve.
    pub reads: Store,
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

    /// For requests that this process makes itself. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The settings of the queue are invalid.
    pub fn in_process(
        store: Store,
        cache: Cache<CachedProduct>,
        queue: QueueSettings,
    ) -> anyhow::Result<Self> {
        let registry = registry("api", env!("CARGO_PKG_VERSION"))?;
        let admission = Admission::open(
            AdmissionSettings::default(),
            store.clone(),
            cache.clone(),
            Publisher::connect(queue)?,
            Arc::new(AdmissionMetrics::unmeasured(&registry)?),
        );
        Ok(Self::new(AppParts {
            reads: store.on_read_replicas(),
            store,
            cache,
            admission,
            readiness: Readiness::default(),
            body: BodyLimits {
                bytes: 1 << 20,
                time: Duration::from_secs(1),
                bytes_per_second: 0,
                budget: ByteBudget::leak(1 << 24),
            },
            limits: OrderLimits { quantity: 1_000, lines: 50, hold: Duration::from_hours(24) },
            console: None,
        }))
    }
}

impl std::ops::Deref for App {
    type Target = AppParts;

    fn deref(&self) -> &AppParts {
        &self.parts
    }
}
