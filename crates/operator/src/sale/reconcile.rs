//! Reconciles a FlashSale: writes it to the database according to its spec, and its status according to the database.
//!
//! Only the time of the last report is remembered. If a reconcile fails or the operator ends, the next reconcile does
//! the rest.

use std::{sync::Arc, time::Duration};

use holdfast_domain::Sale;
use jiff::{SignedDuration, Timestamp};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::events::{Recorder, Reporter},
};
use quick_cache::sync::Cache;
use serde_json::json;

use super::{
    SaleSettings,
    capacity::Capacity,
    events,
    repository::{self, NotWritten, SaleRepository, Snapshot},
    resource::{FlashSale, FlashSaleStatus, Phase},
    status::{self, SaleFacts, SalePart},
    timeline::Timeline,
};
use crate::{
    calls::{CallError, FIELD_MANAGER, call},
    failures::Failures,
    queues::Queues,
};

/// The interval of checks of a sale that is not over.
const BUSY: Duration = Duration::from_secs(1);
/// The interval of checks of a sale that is over, or that belongs to another operator.
const IDLE: Duration = Duration::from_mins(1);
/// The pause before a refused write is retried.
const REFUSED_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// The interval of reports about an open sale.
const REPORT_EVERY: SignedDuration = SignedDuration::from_secs(5);
/// How long after the end replicas may still report about it.
const LAST_REPORT_AFTER: SignedDuration = SignedDuration::from_secs(3);
/// How long a sale of another release may have no status before its status says that no operator manages it.
const OTHERS_TIME: SignedDuration = SignedDuration::from_secs(10);
/// The most sales whose last report is remembered.
const REPORTED_MAX: usize = 1000;
/// The longest instance name in an event.
const INSTANCE_MAX: usize = 128;

/// Why a reconcile failed.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error("the status could not be written")]
    Status(#[source] CallError),
    #[error("the object cannot be read as a FlashSale: {0}")]
    Unreadable(String),
    #[error("it took longer than {}s", .0.as_secs())]
    Limit(Duration),
}

impl ReconcileError {
    /// Whether another client has changed the object in the meantime.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Status(error) if error.is_conflict())
    }
}

/// See the module documentation.
pub struct Reconciler {
    settings: SaleSettings,
    sales: Api<FlashSale>,
    repository: SaleRepository,
    capacity: Arc<Capacity>,
    queues: Queues,
    recorder: Recorder,
    failures: Failures,
    /// The time of the last report about a sale, by its uid.
    reported: Cache<String, Timestamp>,
}

impl Reconciler {
    pub fn new(
        settings: SaleSettings,
        client: Client,
        repository: SaleRepository,
        capacity: Arc<Capacity>,
        queues: Queues,
        failures: Failures,
    ) -> Self {
        let instance = settings.identity.chars().take(INSTANCE_MAX).collect();
        let controller = "holdfast.dev/operator".to_owned();
        let reporter = Reporter { controller, instance: Some(instance) };
        Self {
            sales: Api::namespaced(client.clone(), &settings.namespace),
            recorder: Recorder::new(client, reporter),
            reported: Cache::new(REPORTED_MAX),
            settings,
            repository,
            capacity,
            queues,
            failures,
        }
    }

    /// Does what is due for a sale at `at`, by default the database's time, or the time of this host without a
    /// database. Returns the time until the next check. If it is dropped, the next call continues.
    pub async fn reconcile(
        &self,
        sale: &FlashSale,
        at: Option<Timestamp>,
    ) -> Result<Duration, ReconcileError> {
        if sale.metadata.deletion_timestamp.is_some() {
            return Ok(IDLE);
        }
        let snapshot = self.repository.snapshot().await;
        let now = at.or(snapshot.as_ref().ok().map(|snapshot| snapshot.now()));
        let now = now.unwrap_or_else(Timestamp::now);
        if !self.settings.looks_after(&sale.spec) {
            return self.not_ours(sale, now).await;
        }
        let timeline = Timeline::of(&sale.spec);
        let parts = self.capacity.parts(&sale.spec);
        let (written, problem) = match snapshot {
            Ok(snapshot) => self.write(sale, timeline.as_ref().ok(), &parts, &snapshot, now).await,
            Err(problem) => (None, Some(problem)),
        };
        let problem = match &timeline {
            Ok(_) => problem,
            Err(error) => {
                Some(NotWritten::Invalid { reason: "InvalidSpec", message: error.to_string() })
            }
        };
        let (generation, waits) = (sale.metadata.generation, !sale.spec.open_when_not_ready);
        let known = SaleFacts { timeline, written, problem, parts, waits, generation };
        let mut status = status::status(&known, now, sale.status.as_ref());
        if let Some(written) = &known.written {
            self.report(sale, written, &mut status, now).await;
        }
        self.show(sale, &status).await?;
        Ok(next_look(&known, now))
    }

    /// Writes a sale to the database if it differs from the spec. Returns the sale in the database, and why it still
    /// differs.
    async fn write(
        &self,
        sale: &FlashSale,
        timeline: Option<&Timeline>,
        parts: &[SalePart],
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> (Option<Sale>, Option<NotWritten>) {
        let name = match repository::name_of(sale) {
            Ok(name) => name,
            Err(problem) => return (None, Some(problem)),
        };
        let found = snapshot.sales.get(&name).cloned();
        let Some(timeline) = timeline else { return (found, None) };
        // A sale that was opened once is not held back again.
        let was_held_back = found.as_ref().is_none_or(|found| found.held_back);
        let ready = now >= timeline.warms_at && status::is_ready(parts);
        let held_back = !sale.spec.open_when_not_ready && was_held_back && !ready;
        let wanted = repository::entry(name, &sale.spec, *timeline, held_back);
        if found.as_ref() == Some(&wanted) {
            return (found, None);
        }
        match self.repository.write(&wanted).await {
            Ok(()) => {
                tracing::info!(sale = wanted.name.as_str(), held_back, "the sale was recorded");
                (Some(wanted), None)
            }
            Err(problem) => (found, Some(problem)),
        }
    }

    /// Handles a sale of another release, which another operator may manage. If it has no status after some time, this
    /// operator writes one.
    async fn not_ours(&self, sale: &FlashSale, now: Timestamp) -> Result<Duration, ReconcileError> {
        let observed = sale.status.as_ref().and_then(|status| status.observed_generation);
        if observed.is_some() && observed == sale.metadata.generation {
            return Ok(IDLE);
        }
        if now < changed_at(sale) + OTHERS_TIME {
            return Ok(OTHERS_TIME.unsigned_abs());
        }
        let release = sale.spec.release.as_deref().unwrap_or_default();
        let message = format!(
            "spec.release: no operator manages release {release:?} in this namespace; this one manages {:?}",
            self.settings.release
        );
        let known = SaleFacts {
            timeline: Timeline::of(&sale.spec),
            written: None,
            problem: Some(NotWritten::Invalid { reason: "UnknownRelease", message }),
            parts: Vec::new(),
            waits: false,
            generation: sale.metadata.generation,
        };
        self.show(sale, &status::status(&known, now, sale.status.as_ref())).await?;
        Ok(IDLE)
    }

    async fn report(
        &self,
        sale: &FlashSale,
        written: &Sale,
        status: &mut FlashSaleStatus,
        now: Timestamp,
    ) {
        let Some(uid) = sale.uid() else { return };
        let last = self.reported.get(&uid);
        let final_at = written.ends_at + LAST_REPORT_AFTER;
        let due = match status.phase {
            Some(Phase::Open) => last.is_none_or(|last| now < last || now >= last + REPORT_EVERY),
            Some(Phase::Closed) => last.is_none_or(|last| last < final_at) && now >= final_at,
            _ => false,
        };
        if !due {
            return;
        }
        if let Ok(numbers) = self.repository.report(&written.name).await {
            let workers = self.capacity.workers.ready();
            status::seen(&mut status.report, numbers.as_ref(), self.depth().await, workers);
            self.reported.insert(uid, now);
        }
    }

    /// The depth of the release's queue.
    async fn depth(&self) -> Option<u64> {
        let SaleSettings { namespace, release, .. } = &self.settings;
        let queues = self.queues.all();
        let queue = queues
            .iter()
            .find(|queue| queue.namespace() == namespace && queue.label("release") == release)?;
        queue.depth().await.ok()
    }

    /// Writes the status if it has changed, and publishes events about the changes.
    async fn show(&self, sale: &FlashSale, status: &FlashSaleStatus) -> Result<(), ReconcileError> {
        if sale.status.as_ref() == Some(status) {
            return Ok(());
        }
        let params =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..Default::default() };
        let patch = json!({
            "metadata": {"resourceVersion": sale.resource_version()},
            "status": status,
        });
        let name = sale.name_any();
        match call(self.sales.patch_status(&name, &params, &Patch::Merge(patch))).await {
            Ok(_) => {}
            // It was deleted in the meantime.
            Err(error) if error.code() == Some(404) => return Ok(()),
            Err(error) => return Err(ReconcileError::Status(error)),
        }
        let regarding = sale.object_ref(&());
        for event in events::changes(sale.status.as_ref(), status) {
            let published = call(self.recorder.publish(&event, &regarding)).await;
            self.failures.heard("events", &name, published);
        }
        Ok(())
    }
}

/// The time of the last change of the spec, by the API server's clock.
fn changed_at(sale: &FlashSale) -> Timestamp {
    let fields = sale.metadata.managed_fields.iter().flatten();
    let changes = fields.filter(|entry| entry.subresource.is_none());
    let last = changes.filter_map(|entry| entry.time.clone()).map(|time| time.0).max();
    let created = || sale.metadata.creation_timestamp.clone().map(|time| time.0);
    last.or_else(created).unwrap_or_default()
}

/// The time until something is due: exactly at each transition of the sale, and in between often enough to notice pods.
fn next_look(known: &SaleFacts, now: Timestamp) -> Duration {
    match &known.problem {
        Some(NotWritten::Unavailable) => return BUSY,
        Some(_) if known.written.is_none() => return REFUSED_AGAIN_AFTER,
        _ => {}
    }
    let Some(sale) = &known.written else { return BUSY };
    if now >= sale.ends_at + LAST_REPORT_AFTER + SignedDuration::from_secs(1) {
        return IDLE;
    }
    let warms_at = known.timeline.as_ref().ok().map(|timeline| timeline.warms_at);
    let turns = warms_at.into_iter().chain([sale.starts_at, sale.ends_at]);
    let until = turns.filter_map(|turn| Duration::try_from(turn.duration_since(now)).ok());
    // Slightly late rather than early.
    let next = until.filter(|until| !until.is_zero()).map(|until| until + Duration::from_millis(5));
    next.min().unwrap_or(BUSY).min(BUSY)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use holdfast_domain::SaleName;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    fn known() -> SaleFacts {
        let (warms_at, starts_at, ends_at) = (at(10_000), at(20_000), at(30_000));
        SaleFacts {
            timeline: Ok(Timeline { warms_at, starts_at, ends_at }),
            written: Some(Sale {
                name: SaleName::new("shop/a".to_owned()).unwrap(),
                products: BTreeSet::new(),
                starts_at,
                ends_at,
                per_customer: None,
                held_back: false,
            }),
            problem: None,
            parts: Vec::new(),
            waits: false,
            generation: None,
        }
    }

    #[test]
    fn the_next_reconcile_is_at_the_next_transition() {
        for (now, millis) in [
            (0, 1000),
            (9_700, 305),
            (10_000, 1000),
            (19_999, 6),
            (29_000, 1000),
            (33_500, 1000),
            (40_000, 60_000),
        ] {
            assert_eq!(next_look(&known(), at(now)), Duration::from_millis(millis), "at {now}");
        }
    }

    #[test]
    fn a_failed_write_is_soon_tried_again() {
        let lost = SaleFacts { written: None, problem: Some(NotWritten::Unavailable), ..known() };
        assert_eq!(next_look(&lost, at(0)), BUSY);
        let refused = NotWritten::Refused { reason: "UnknownProducts", message: String::new() };
        let refused = SaleFacts { written: None, problem: Some(refused), ..known() };
        assert_eq!(next_look(&refused, at(0)), REFUSED_AGAIN_AFTER);
    }
}
