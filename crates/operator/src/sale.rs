//! `FlashSale`: somebody says when a sale is, and the capacity is there before it.
//!
//! - `resource`: the custom resource.
//! - `timeline`, `minimum`, `status`, `events`: what follows from it and the time, without any I/O.
//! - `repository`, `autoscaler`, `capacity`: the database, and the autoscalers.
//! - `reconcile`: one FlashSale, whenever something about it is due.
//! - `controller`: kube-runtime's controller of all sales, and the jobs that are about several of them.
//!
//! Orders do not need any of this to be alive: the database has the sale, and the API enforces it.

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
