//! The dashboards, each in a file of its own. That every metric stands on a panel, and that every
//! panel shows something under load, is tested with a real Prometheus.

mod api;
mod flash_sale;
mod objectives;
mod servers;
mod workers;

use crate::grafana::Dashboard;

/// All dashboards, the one to begin with first.
pub fn all() -> [Dashboard; 5] {
    [
        flash_sale::dashboard(),
        api::dashboard(),
        workers::dashboard(),
        servers::dashboard(),
        objectives::dashboard(),
    ]
}
