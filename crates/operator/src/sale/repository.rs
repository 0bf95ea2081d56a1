//! The sales in PostgreSQL, which enforces them whether or not the operator is alive.

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

/// The longest wait for the database. The store has limits for each statement; this one is for all that a call does.
const CALL_LIMIT: Duration = Duration::from_secs(6);
/// How long a snapshot is used, and how long a failure to get one is believed. All sales are looked at each second.
const FRESH: Duration = Duration::from_millis(500);

/// The database, if the operator was given one. Cheap to clone.
#[derive(Clone)]
pub struct SaleRepository(Arc<RepositoryState>);

struct RepositoryState {
    store: Option<Store>,
    failures: Failures,
    latest: Mutex<Option<Latest>>,
}

/// The last try to get a snapshot, and when it ended.
type Latest = (Instant, Result<Arc<Snapshot>, NotWritten>);

/// What the database had at one moment.
#[derive(Debug)]
pub struct Snapshot {
    taken: Instant,
    clock: Timestamp,
    /// All sales, by name.
    pub sales: BTreeMap<SaleName, Sale>,
}

impl Snapshot {
    /// The database's time of now.
    pub fn now(&self) -> Timestamp {
        self.clock + self.taken.elapsed()
    }
}

/// Why a sale is not in the database as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotWritten {
    /// The spec has to be changed.
    Invalid { reason: &'static str, message: String },
    /// The database refuses it as things are. It is tried again.
    Refused { reason: &'static str, message: String },
    /// The operator has no database.
    NoDatabase,
    /// The database did not answer or failed. It is tried again.
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

    /// What the database has, as of half a second ago at most. Cancellation safe.
    ///
    /// # Errors
    /// There is no database, or it is not available.
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>, NotWritten> {
        let store = self.store()?;
        // A task that waited here gets what the one before it has read.
        let mut latest = self.0.latest.lock().await;
        if let Some((at, snapshot)) = &*latest
            && at.elapsed() < FRESH
        {
            return snapshot.clone();
        }
        let snapshot = self.limited("snapshot", read(store)).await.map(Arc::new);
        latest.insert((Instant::now(), snapshot)).1.clone()
    }

    /// Writes a sale, or changes the one of its name. Dropped, it may have been written or not.
    ///
    /// # Errors
    /// Why it was not written. After [`NotWritten::Unavailable`] it may have been.
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

    /// Deletes a sale. Dropped, it may have been deleted or not.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn delete(&self, name: &SaleName) -> Result<(), NotWritten> {
        let store = self.store()?;
        let deleted = self.limited(name.as_str(), store.delete_sale(name)).await;
        *self.0.latest.lock().await = None;
        deleted.map(drop)
    }

    /// How a sale goes.
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
            // It answers, and will say the same to another replica.
            Err(RepositoryError::Store(StoreError::Database(_) | StoreError::Corrupt { .. })) => {
                let message = "the database refused a statement; the operator's log says which";
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

/// The beginning of the names of all sales that this operator writes.
pub fn prefix(namespace: &str) -> String {
    format!("{namespace}/")
}

/// The name that a FlashSale has in the database.
///
/// # Errors
/// The database does not allow it. Every name of Kubernetes is allowed today.
pub fn name_of(sale: &FlashSale) -> Result<SaleName, NotWritten> {
    let name = format!("{}{}", prefix(&sale.namespace().unwrap_or_default()), sale.name_any());
    SaleName::new(name).map_err(|error| NotWritten::Invalid {
        reason: "InvalidName",
        message: format!("metadata.name {error}"),
    })
}

/// A FlashSale as the database has it.
pub fn entry(name: SaleName, spec: &FlashSaleSpec, timeline: Timeline, held_back: bool) -> Sale {
    // PostgreSQL keeps microseconds.
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
