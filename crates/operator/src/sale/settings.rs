//! Which sales an operator manages.

use super::{autoscaler::AutoscalerRef, resource::FlashSaleSpec};

/// Which sales an operator manages.
#[derive(Clone, Debug)]
pub struct SaleSettings {
    /// The namespace of the sales and of the autoscalers.
    pub namespace: String,
    pub release: String,
    /// The name of this replica in events.
    pub identity: String,
    /// The API's autoscaler.
    pub api: Option<AutoscalerRef>,
    pub workers: Option<AutoscalerRef>,
}

impl SaleSettings {
    /// Whether a sale belongs to this operator's release.
    pub fn looks_after(&self, spec: &FlashSaleSpec) -> bool {
        spec.release.as_ref().is_none_or(|release| *release == self.release)
    }
}
