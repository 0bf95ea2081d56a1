//! The API that is served, and its metrics.

pub const GROUP: &str = "external.metrics.k8s.io";
pub const VERSION: &str = "v1beta1";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Orders in the queue: waiting, being fulfilled, or set aside for a later try.
    Depth,
    /// Seconds that the next order has waited; 0 if none waits.
    OldestAge,
}

impl Metric {
    pub const ALL: [Self; 2] = [Self::Depth, Self::OldestAge];

    pub fn name(self) -> &'static str {
        match self {
            Self::Depth => "holdfast_queue_depth",
            Self::OldestAge => "holdfast_queue_oldest_age_seconds",
        }
    }

    /// The metric of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }
}
