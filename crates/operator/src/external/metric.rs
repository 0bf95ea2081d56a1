//! The API that is served, and its metrics.

use holdfast_domain::named;

pub const GROUP: &str = "external.metrics.k8s.io";
pub const VERSION: &str = "v1beta1";

named! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Metric {
        /// Orders in the queue: waiting, being fulfilled, or set aside for a later try.
        Depth = "holdfast_queue_depth",
        /// Seconds that the next order has waited; 0 if none waits.
        OldestAge = "holdfast_queue_oldest_age_seconds",
    }
}
