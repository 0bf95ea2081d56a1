//! The API that is served, and its metrics.

use holdfast_domain::named;

pub const GROUP: &str = "external.metrics.k8s.io";
pub const VERSION: &str = "v1beta1";

named! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Metric {
        /// Unfinished orders: waiting, in flight, or waiting for another attempt.
        Depth = "holdfast_queue_depth",
        /// How long the next order has waited, in seconds; 0 if none waits.
        OldestAge = "holdfast_queue_oldest_age_seconds",
    }
}
