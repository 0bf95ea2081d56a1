//! Which sales an operator looks after.

use super::{autoscaler::AutoscalerRef, resource::FlashSaleSpec};

/// Which sales an operator looks after.
#[derive(Clone, Debug)]
pub struct SaleSettings {
    /// The namespace of the sales and of the autoscalers.
    pub namespace: String,
    /// The release whose sales these are.
    pub release: String,
    /// This replica, as events name it.
    pub identity: String,
    /// The API's autoscaler.
    pub api: Option<AutoscalerRef>,
    /// The workers' autoscaler.
    pub workers: Option<AutoscalerRef>,
}

impl SaleSettings {
    /// Whether a sale is of this operator's release.
    pub fn looks_after(&self, spec: &FlashSaleSpec) -> bool {
        spec.release.as_ref().is_none_or(|release| *release == self.release)
    }
}
