//! The two autoscalers whose minimums sales raise, and their last known state.

use holdfast_telemetry::Chain;
use kube::Client;
use parking_lot::Mutex;

use super::{
    autoscaler::{Autoscaler, AutoscalerRef},
    minimum::MinimumChange,
    resource::FlashSaleSpec,
    status::{PartReplicas, SalePart},
};
use crate::calls::CallError;

/// The capacity of one part of the release.
pub struct PartCapacity {
    /// `workers` or `api`, as in the spec.
    pub name: &'static str,
    /// What a sale wants.
    wanted: fn(&FlashSaleSpec) -> Option<i32>,
    reference: Option<AutoscalerRef>,
    found: Mutex<PartReplicas>,
}

/// The capacity of the release.
pub struct Capacity {
    client: Client,
    namespace: String,
    pub workers: PartCapacity,
    pub api: PartCapacity,
}

impl PartCapacity {
    fn new(
        name: &'static str,
        reference: Option<AutoscalerRef>,
        wanted: fn(&FlashSaleSpec) -> Option<i32>,
    ) -> Self {
        let found = match reference {
            Some(_) => PartReplicas::Unknown("it has not been read yet".to_owned()),
            None => PartReplicas::Nothing,
        };
        Self { name, wanted, reference, found: Mutex::new(found) }
    }

    /// The pods that were ready at the last check.
    pub fn ready(&self) -> i32 {
        match *self.found.lock() {
            PartReplicas::Replicas { ready, .. } => ready,
            _ => 0,
        }
    }

    fn part(&self, spec: &FlashSaleSpec) -> Option<SalePart> {
        let wanted = (self.wanted)(spec)?;
        Some(SalePart { name: self.name, wanted, found: self.found.lock().clone() })
    }
}

impl Capacity {
    pub fn new(
        client: Client,
        namespace: String,
        workers: Option<AutoscalerRef>,
        api: Option<AutoscalerRef>,
    ) -> Self {
        let workers = PartCapacity::new("workers", workers, |spec| {
            spec.workers.as_ref().map(|capacity| capacity.min_replicas)
        });
        let api = PartCapacity::new("api", api, |spec| {
            spec.api.as_ref().map(|capacity| capacity.min_replicas)
        });
        Self { client, namespace, workers, api }
    }

    /// What a sale wants, and the state at the last check.
    pub fn parts(&self, spec: &FlashSaleSpec) -> Vec<SalePart> {
        [&self.workers, &self.api].into_iter().filter_map(|part| part.part(spec)).collect()
    }

    /// Sets the minimum of a part's autoscaler that these sales want now, or restores the original one.
    ///
    /// # Errors
    /// The API server does not answer, or refuses: with a conflict if the autoscaler has changed since it was read.
    pub async fn scale(
        &self,
        part: &PartCapacity,
        sales: impl Iterator<Item = &FlashSaleSpec>,
    ) -> Result<(), CallError> {
        let Some(reference) = &part.reference else { return Ok(()) };
        let wanted: Vec<_> = sales.filter_map(part.wanted).collect();
        let applied = self.apply(part.name, reference, wanted).await;
        match &applied {
            Ok(found) => part.found.lock().clone_from(found),
            Err(error) if error.is_conflict() => {}
            Err(error) => *part.found.lock() = PartReplicas::Unknown(Chain(error).to_string()),
        }
        applied.map(drop)
    }

    async fn apply(
        &self,
        part: &'static str,
        reference: &AutoscalerRef,
        wanted: Vec<i32>,
    ) -> Result<PartReplicas, CallError> {
        let read = Autoscaler::read(&self.client, &self.namespace, reference).await?;
        let Some(mut autoscaler) = read else { return Ok(PartReplicas::Nothing) };
        match autoscaler.apply(&self.client, &self.namespace, wanted).await? {
            MinimumChange::Keep => {}
            MinimumChange::Raise(record) => {
                tracing::info!(part, found = record.found, set = record.set, "minimum raised");
            }
            MinimumChange::Restore(minimum) => tracing::info!(part, minimum, "minimum restored"),
        }
        Ok(PartReplicas::Replicas { maximum: autoscaler.observed.maximum, ready: autoscaler.ready })
    }
}
