//! Where sales are written down: PostgreSQL, which enforces them whether or not anybody here is alive.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_domain::{ProductId, Sale, SaleName};
use holdfast_store::{PutSaleError, SALES_MAX, SaleReport, Store, StoreError};
use holdfast_telemetry::Chain;
use jiff::Timestamp;
use kube::ResourceExt as _;

use super::{
    resource::{FlashSale, FlashSaleSpec},
    timeline::Timeline,
};

/// The database, if the operator was given one.
#[derive(Clone, Debug)]
pub struct Book(Option<Store>);

/// What stands in the database.
pub struct Page {
    /// The database's time.
    pub now: Timestamp,
    /// Its sales, by name.
    pub sales: BTreeMap<SaleName, Sale>,
}

/// Why a sale is not in the book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotWritten {
    /// The operator has no database.
    NoDatabase,
    /// It cannot be held as it is.
    Refused {
        /// In one word.
        reason: &'static str,
        /// For people.
        message: String,
    },
    /// The database did not take it; tried again.
    Unavailable,
}

impl Book {
    /// A book in this database.
    pub fn new(store: Option<Store>) -> Self {
        Self(store)
    }

    /// Whether there is a database at all.
    pub fn has_database(&self) -> bool {
        self.0.is_some()
    }

    /// What stands in it now; `None` if there is no database.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn open(&self) -> Result<Option<Page>, StoreError> {
        let Some(store) = &self.0 else { return Ok(None) };
        let now = store.clock().await?;
        let sales = store.sales(u32::try_from(SALES_MAX).unwrap_or(u32::MAX)).await?;
        Ok(Some(Page { now, sales: sales.into_iter().map(|it| (it.name.clone(), it)).collect() }))
    }

    /// Writes a sale down.
    ///
    /// # Errors
    /// Why it was not.
    pub async fn write(&self, sale: &Sale) -> Result<(), NotWritten> {
        let Some(store) = &self.0 else { return Err(NotWritten::NoDatabase) };
        store.put_sale(sale).await.map_err(|error| match error {
            PutSaleError::UnknownProducts(ids) => {
                let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
                NotWritten::Refused {
                    reason: "UnknownProducts",
                    message: format!("spec.products: not sold here: {}", ids.join(", ")),
                }
            }
            PutSaleError::TooManySales(_) | PutSaleError::Full => {
                NotWritten::Refused { reason: "TooManySales", message: error.to_string() }
            }
            PutSaleError::Begun => {
                NotWritten::Refused { reason: "SaleBegun", message: error.to_string() }
            }
            PutSaleError::Archived(_) => {
                NotWritten::Refused { reason: "OrdersArchived", message: error.to_string() }
            }
            PutSaleError::Store(error) => {
                tracing::warn!(sale = sale.name.as_str(), error = %Chain(&error), "a sale was not written down; trying again");
                NotWritten::Unavailable
            }
        })
    }

    /// Takes a sale out.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn take_out(&self, name: &SaleName) -> Result<(), StoreError> {
        let Some(store) = &self.0 else { return Ok(()) };
        store.delete_sale(name).await.map(drop)
    }

    /// How a sale goes.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn report(&self, name: &SaleName) -> Result<Option<SaleReport>, StoreError> {
        let Some(store) = &self.0 else { return Ok(None) };
        store.sale_report(name).await
    }
}

/// What the names of all sales begin with that this operator writes down.
pub fn prefix(namespace: &str) -> String {
    format!("{namespace}/")
}

/// The name that a resource has in the book.
///
/// # Errors
/// Kubernetes allows it and the book does not, which cannot be as the characters stand.
pub fn name_of(sale: &FlashSale) -> Result<SaleName, NotWritten> {
    let name = format!("{}{}", prefix(&sale.namespace().unwrap_or_default()), sale.name_any());
    SaleName::new(name).map_err(|error| NotWritten::Refused {
        reason: "InvalidName",
        message: format!("metadata.name {error}"),
    })
}

/// A resource as the book has it.
pub fn entry(name: SaleName, spec: &FlashSaleSpec, timeline: Timeline, held_back: bool) -> Sale {
    let micros = |time: Timestamp| {
        // As the database keeps it.
        Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
    };
    Sale {
        name,
        products: spec.products.iter().copied().map(ProductId).collect::<BTreeSet<_>>(),
        starts_at: micros(timeline.starts_at),
        ends_at: micros(timeline.ends_at),
        per_customer: spec.per_customer.and_then(|units| u32::try_from(units).ok()),
        held_back,
    }
}
