//! The dashboards, one per file. Tests with a real Prometheus check that every metric is on a panel and that every
//! panel shows data under load.

mod api;
mod flash_sale;
mod objectives;
mod servers;
mod workers;

use crate::grafana::Dashboard;

/// All dashboards. The first one gives the overview.
pub fn all() -> [Dashboard; 5] {
    [
        flash_sale::dashboard(),
        api::dashboard(),
        workers::dashboard(),
        servers::dashboard(),
        objectives::dashboard(),
    ]
}
