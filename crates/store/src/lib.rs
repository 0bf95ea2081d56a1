//! PostgreSQL: the only crate with SQL.
//!
//! This crate contains the connection pools and the migrations ([`Store`]), reading and changing products
//! ([`LockedProduct`]) with their stock ledger, reading orders and holds, pages of all these ([`Page`]), the admission
//! of a batch of stock requests (`admission`), the claims of workers on orders ([`fulfilment`]), replaying failed
//! orders, and archiving old ones ([`Archive`]). Rows of products are locked only in `locks` and `admission::lock`. A
//! statement that waits for several of them locks them in the order of their ids.
//!
//! It contains no HTTP and no Redis. The business rules are in `holdfast-domain`. The constraints in the schema are
//! only the second line of defence.
#![cfg_attr(test, allow(clippy::disallowed_methods))] // tests index values that they have created

mod admission;
mod admission_session;
mod api_keys;
mod archive;
mod calls;
mod connections;
mod dead_letters;
mod diagnosis;
mod error;
mod folded;
pub mod fulfilment;
mod hand_over;
mod history;
mod holds;
mod idempotency;
mod identity;
mod key_turns;
mod ledger;
mod locked_product;
mod locked_rows;
mod locks;
mod metrics;
mod migrate;
mod order_rows;
mod orders;
mod overview;
mod page;
mod prepared;
mod probe;
mod products;
mod read_replicas;
mod reads;
mod replicated;
mod rows;
mod sale_report;
mod sale_windows;
mod sales;
mod schema;
mod servers;
mod settings;
mod sql;
mod statistics;
mod store;
mod time;
mod tuple_ids;
mod url;
mod waits;
mod wal;

pub use admission::{
    Batch, BatchOutcome, BatchToken, CancelledOrder, CommitError, EXPIRED_HOLDS_MAX, EndedHold,
    ExpiredHold, HoldRecord, LockMode, MissedRows, OrderRecord, Records, SeenRows, Stored,
    WantedRows, Writing,
};
pub use api_keys::{ApiKey, ApiKeyRecord, LIVE_KEYS_MAX};
pub use archive::{ARCHIVED_AT_ONCE_MAX, Archive, ArchivePlace, Cutoff, CutoffReason, OldOrder};
pub use dead_letters::{Attribution, DeadLetterFilter, DeadLetterPage, Replayed};
pub use diagnosis::PostgresDiagnosis;
pub use error::StoreError;
pub use holds::{HoldPage, NextExpiry};
pub use idempotency::{IdempotencyKey, KeyedResult, ResultKind};
pub use key_turns::KeyTurn;
pub use locked_product::LockedProduct;
pub use metrics::StoreMetrics;
pub use migrate::MigrateError;
pub use orders::{OrderPage, OrderPlace};
pub use overview::StockLevel;
pub use page::{LOOKED_AT_MAX, PAGE_BYTES_MAX, Page};
pub use probe::{DatabaseState, Probe};
pub use products::{ProductPage, ProductPlace};
pub use read_replicas::ReadReplicaMetrics;
pub use sale_report::{LOCK_WAIT_BUCKETS, SaleReport, SaleSecond};
pub use sales::{PutSaleError, SALES_MAX, SALES_OF_PRODUCT_MAX};
pub use schema::SchemaError;
pub use servers::Servers;
pub use settings::StoreSettings;
pub use store::Store;
pub use url::{DatabaseReadUrl, DatabaseUrl, NotADatabaseReadUrl, NotADatabaseUrl};
