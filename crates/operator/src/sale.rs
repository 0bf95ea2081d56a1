//! `FlashSale`: announces a sale, so that the capacity is ready when it opens.
//!
//! - `resource`: the custom resource.
//! - `timeline`, `minimum`, `status`, `events`: pure functions of the sale and the time.
//! - `repository`, `autoscaler`, `capacity`: the database, and the autoscalers.
//! - `reconcile`: handles one FlashSale when something is due.
//! - `controller`: kube-runtime's controller of all sales, and the jobs that concern several of them.
//!
//! Orders do not depend on it: the sale is in the database, and the API enforces it.

pub mod autoscaler;
mod capacity;
pub mod controller;
mod events;
pub mod minimum;
mod reconcile;
pub mod repository;
pub mod resource;
mod settings;
pub mod status;
pub mod timeline;

pub use autoscaler::AutoscalerRef;
pub use controller::SaleController;
pub use reconcile::ReconcileError;
pub use settings::SaleSettings;
