//! The sales in PostgreSQL, which are enforced even if the operator is down.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use holdfast_domain::{ProductId, Sale, SaleName};
use holdfast_store::{PutSaleError, SALES_MAX, SaleReport, Store, StoreError};
use jiff::Timestamp;
use kube::ResourceExt as _;
use tokio::{sync::Mutex, time::timeout};

use super::{
    resource::{FlashSale, FlashSaleSpec},
    timeline::Timeline,
};
use crate::failures::Failures;

/// The longest wait for the database. The store limits each statement; this limit is for a whole call.
const CALL_LIMIT: Duration = Duration::from_secs(6);
/// How long a snapshot is used, and how long a failure to get one. All sales are checked every second.
const FRESH: Duration = Duration::from_millis(500);

/// The database, if one is configured. Cheap to clone.
#[derive(Clone)]
pub struct SaleRepository(Arc<RepositoryState>);

struct RepositoryState {
    store: Option<Store>,
    failures: Failures,
    latest: Mutex<Option<Latest>>,
}

/// The result of the last attempt to get a snapshot, and its time.
type Latest = (Instant, Result<Arc<Snapshot>, NotWritten>);

/// The state of the database at one moment.
#[derive(Debug)]
pub struct Snapshot {
    taken: Instant,
    clock: Timestamp,
    /// All sales, by name.
    pub sales: BTreeMap<SaleName, Sale>,
}

impl Snapshot {
    /// The database's current time.
    pub fn now(&self) -> Timestamp {
        self.clock + self.taken.elapsed()
    }
}

/// Why the sale in the database differs from the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotWritten {
    /// The spec must be changed.
    Invalid {
        reason: &'static str,
        message: String,
    },
    /// The database refuses it at the moment. It is retried.
    Refused {
        reason: &'static str,
        message: String,
    },
    NoDatabase,
    /// The database did not answer, or failed. It is retried.
    Unavailable,
}

#[derive(Debug, thiserror::Error)]
enum RepositoryError {
    #[error("the database did not answer within {}s", CALL_LIMIT.as_secs())]
    Limit,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SaleRepository {
    pub fn new(store: Option<Store>, failures: Failures) -> Self {
        Self(Arc::new(RepositoryState { store, failures, latest: Mutex::default() }))
    }

    /// The state of the database, at most half a second old. Safe to cancel.
    ///
    /// # Errors
    /// There is no database, or it is not available.
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>, NotWritten> {
        let store = self.store()?;
        // A task that waited here gets what the previous one has read.
        let mut latest = self.0.latest.lock().await;
        if let Some((at, snapshot)) = &*latest
            && at.elapsed() < FRESH
        {
            return snapshot.clone();
        }
        let snapshot = self.limited("snapshot", read(store)).await.map(Arc::new);
        latest.insert((Instant::now(), snapshot)).1.clone()
    }

    /// Writes a sale, or changes the one with its name. If it is dropped, the sale may or may not have been written.
    ///
    /// # Errors
    /// Why it was not written. After [`NotWritten::Unavailable`], it may have been written.
    pub async fn write(&self, sale: &Sale) -> Result<(), NotWritten> {
        let store = self.store()?;
        let written = self
            .limited(sale.name.as_str(), async {
                match store.put_sale(sale).await {
                    Err(PutSaleError::Store(error)) => Err(error),
                    other => Ok(other),
                }
            })
            .await;
        *self.0.latest.lock().await = None;
        written?.map_err(|error| {
            let reason = match &error {
                PutSaleError::UnknownProducts(_) => "UnknownProducts",
                PutSaleError::Begun => "SaleBegun",
                PutSaleError::Archived(_) => "OrdersArchived",
                PutSaleError::TooManySales(_) | PutSaleError::Full => "TooManySales",
                PutSaleError::Store(_) => "DatabaseError",
            };
            let message = match &error {
                PutSaleError::UnknownProducts(ids) => {
                    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
                    format!("spec.products: these products do not exist: {}", ids.join(", "))
                }
                error => error.to_string(),
            };
            NotWritten::Refused { reason, message }
        })
    }

    /// Deletes a sale. If it is dropped, the sale may or may not have been deleted.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn delete(&self, name: &SaleName) -> Result<(), NotWritten> {
        let store = self.store()?;
        let deleted = self.limited(name.as_str(), store.delete_sale(name)).await;
        *self.0.latest.lock().await = None;
        deleted.map(drop)
    }

    /// The progress of a sale.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn report(&self, name: &SaleName) -> Result<Option<SaleReport>, NotWritten> {
        self.limited(name.as_str(), self.store()?.sale_report(name)).await
    }

    fn store(&self) -> Result<&Store, NotWritten> {
        self.0.store.as_ref().ok_or(NotWritten::NoDatabase)
    }

    async fn limited<T>(
        &self,
        subject: &str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, NotWritten> {
        let outcome = match timeout(CALL_LIMIT, call).await {
            Ok(outcome) => outcome.map_err(RepositoryError::Store),
            Err(_elapsed) => Err(RepositoryError::Limit),
        };
        let problem = match &outcome {
            // It answers, and would give another replica the same answer.
            Err(RepositoryError::Store(StoreError::Database(_) | StoreError::Corrupt { .. })) => {
                let message = "the database refused a statement; see the operator's log";
                NotWritten::Refused { reason: "DatabaseError", message: message.to_owned() }
            }
            _ => NotWritten::Unavailable,
        };
        self.0.failures.heard("database", subject, outcome).ok_or(problem)
    }
}

async fn read(store: &Store) -> Result<Snapshot, StoreError> {
    let sales = store.sales(u32::try_from(SALES_MAX).unwrap_or(u32::MAX)).await?;
    let clock = store.clock().await?;
    let sales = sales.into_iter().map(|sale| (sale.name.clone(), sale)).collect();
    Ok(Snapshot { taken: Instant::now(), clock, sales })
}

/// The prefix of the names of all sales that this operator writes.
pub fn prefix(namespace: &str) -> String {
    format!("{namespace}/")
}

/// The name of a FlashSale in the database.
///
/// # Errors
/// The database does not allow the name. It allows every name of Kubernetes today.
pub fn name_of(sale: &FlashSale) -> Result<SaleName, NotWritten> {
    let name = format!("{}{}", prefix(&sale.namespace().unwrap_or_default()), sale.name_any());
    SaleName::new(name).map_err(|error| NotWritten::Invalid {
        reason: "InvalidName",
        message: format!("metadata.name {error}"),
    })
}

/// A FlashSale as a sale of the database.
pub fn entry(name: SaleName, spec: &FlashSaleSpec, timeline: Timeline, held_back: bool) -> Sale {
    // PostgreSQL stores microseconds.
    let micros =
        |time: Timestamp| Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time);
    Sale {
        name,
        products: spec.products.iter().copied().map(ProductId).collect::<BTreeSet<_>>(),
        starts_at: micros(timeline.starts_at),
        ends_at: micros(timeline.ends_at),
        per_customer: spec.per_customer.and_then(|units| u32::try_from(units).ok()),
        held_back,
    }
}
