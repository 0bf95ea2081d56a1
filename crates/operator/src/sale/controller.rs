//! The rounds over all sales: everything is read anew and compared, and nothing but when to look
//! again is remembered. A round that fails, an operator that dies at any step, a resource that vanishes
//! are put right by the next round.

use std::{collections::HashMap, time::Duration};

use holdfast_domain::SaleName;
use holdfast_telemetry::Chain;
use jiff::{SignedDuration, Timestamp};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use tokio::sync::watch;

use super::{
    autoscaler::{Autoscaler, AutoscalerRef},
    book::{self, Book, NotWritten, Page},
    events,
    minimum::Action,
    resource::{FlashSale, FlashSaleSpec, FlashSaleStatus, Phase},
    status::{self, Found, Known, Part},
    timeline::Timeline,
};
use crate::{
    OperatorMetrics,
    calls::{CallError, FIELD_MANAGER, call},
    queues::Queues,
};

/// The most sales that are looked at.
const SALES_MAX: u32 = 500;
/// Between rounds while there is a sale that is not over, and while there is none.
const BUSY: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(5);
/// Between two looks at how an open sale goes.
const REPORT_EVERY: SignedDuration = SignedDuration::from_secs(5);
/// How long after the end the replicas may still tell of it.
const LAST_REPORT_AFTER: SignedDuration = SignedDuration::from_secs(3);
/// Between two tries to write down what the database refuses.
const REFUSED_AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(30);

/// What a controller is told.
#[derive(Clone, Debug)]
pub struct SaleSettings {
    /// The namespace whose sales these are, and in which the autoscalers are.
    pub namespace: String,
    /// The release whose sales these are.
    pub release: String,
    /// This replica, for events.
    pub identity: String,
    /// The API's autoscaler.
    pub api: Option<AutoscalerRef>,
    /// The workers' autoscaler.
    pub workers: Option<AutoscalerRef>,
}

/// See the module's head.
pub struct Controller {
    settings: SaleSettings,
    client: Client,
    sales: Api<FlashSale>,
    book: Book,
    queues: Queues,
    metrics: OperatorMetrics,
    /// When the report of a sale was last made, by its uid.
    reported: HashMap<String, Timestamp>,
    /// What the database has refused, by the sale's uid.
    refused: HashMap<String, (Option<i64>, Timestamp, NotWritten)>,
}

/// Both autoscalers, where there are.
struct Capacity {
    api: Option<Autoscaler>,
    workers: Option<Autoscaler>,
}

/// Why a round stopped.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    /// The API server.
    #[error("the API server did not do what a sale needs: {0}")]
    Call(&'static str, #[source] CallError),
    /// The database.
    #[error("the database did not take out a sale that is gone")]
    TakeOut(#[source] holdfast_store::StoreError),
}

impl Controller {
    /// A controller of the sales that `settings` name.
    pub fn new(
        settings: SaleSettings,
        client: Client,
        book: Book,
        queues: Queues,
        metrics: OperatorMetrics,
    ) -> Self {
        let sales = Api::namespaced(client.clone(), &settings.namespace);
        let (reported, refused) = (HashMap::new(), HashMap::new());
        Self { settings, client, sales, book, queues, metrics, reported, refused }
    }

    /// Does rounds while `leading` says so, until it is dropped.
    pub async fn run(mut self, mut leading: watch::Receiver<bool>) {
        let mut failing = false;
        loop {
            let mut pause = IDLE;
            if *leading.borrow_and_update() {
                match self.round(None).await {
                    Ok(next) => {
                        failing = false;
                        pause = next;
                    }
                    // Somebody has changed something since it was read: at once anew.
                    Err(RoundError::Call(_, error)) if error.is_conflict() => pause = BUSY / 4,
                    Err(error) => {
                        self.metrics.sync_failures.with_label_values(&["sales"]).inc();
                        if !failing {
                            let error = Chain(&error);
                            tracing::warn!(%error, "the sales were not looked after; trying again");
                            failing = true;
                        }
                        pause = BUSY;
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Ok(()) = leading.changed() => {}
            }
        }
    }

    /// Does a round at `at`, by default at the database's time; without a database, at this host's. Says how
    /// long it is until the next is due.
    ///
    /// # Errors
    /// Why it was not done to its end; the next round goes on.
    pub async fn round(&mut self, at: Option<Timestamp>) -> Result<Duration, RoundError> {
        let listed = call(self.sales.list(&ListParams::default().limit(SALES_MAX))).await;
        let sales = match listed {
            Ok(listed) => listed.items,
            // The definition is not installed.
            Err(error) if error.code() == Some(404) => Vec::new(),
            Err(error) => return Err(RoundError::Call("list the sales", error)),
        };
        let ours = |sale: &FlashSale| {
            sale.spec.release.as_ref().is_none_or(|release| *release == self.settings.release)
                && sale.metadata.deletion_timestamp.is_none()
        };
        let sales: Vec<_> = sales.into_iter().filter(ours).collect();
        let page = self.book.open().await;
        let page = page.inspect_err(|error| {
            tracing::debug!(error = %Chain(error), "the book of the sales was not opened");
        });
        let page = page.ok().flatten();
        let now = at.or(page.as_ref().map(|page| page.now)).unwrap_or_else(Timestamp::now);
        let timed: Vec<_> = sales.iter().map(|sale| (sale, Timeline::of(&sale.spec))).collect();

        // First what orders hang on, then the capacity, then what is said of it.
        if let Some(page) = &page {
            self.take_out_vanished(page, &sales).await?;
        }
        let wanting: Vec<_> = timed
            .iter()
            .filter(|(_, timeline)| {
                timeline.as_ref().is_ok_and(|timeline| timeline.wants_capacity(now))
            })
            .map(|(sale, _)| &sale.spec)
            .collect();
        let mut capacity = self.read_capacity().await?;
        self.scale(&mut capacity, &wanting).await?;
        let depth = self.depth(&wanting).await;
        for (sale, timeline) in &timed {
            let parts = capacity.parts(&sale.spec);
            let written = match timeline {
                Ok(timeline) => self.write(sale, *timeline, &parts, page.as_ref(), now).await,
                // It is never held: what stands of it from before stays as it was.
                Err(_) => Ok(false),
            };
            let generation = sale.metadata.generation;
            let known = Known { timeline: timeline.clone(), written, parts, generation };
            let mut status = status::status(&known, now, sale.status.as_ref());
            self.report(sale, timeline.as_ref().ok(), &mut status, now, depth, &capacity).await;
            self.show(sale, &status).await?;
        }
        let uids: Vec<_> = sales.iter().filter_map(kube::ResourceExt::uid).collect();
        self.reported.retain(|uid, _| uids.contains(uid));
        self.refused.retain(|uid, _| uids.contains(uid));
        self.metrics.sales(&timed, now);
        Ok(next_round(timed.iter().filter_map(|(_, timeline)| timeline.as_ref().ok()), now))
    }

    /// Sales in the book whose resource is gone.
    async fn take_out_vanished(&self, page: &Page, sales: &[FlashSale]) -> Result<(), RoundError> {
        let prefix = book::prefix(&self.settings.namespace);
        let names: Vec<SaleName> =
            sales.iter().filter_map(|sale| book::name_of(sale).ok()).collect();
        for name in page.sales.keys() {
            if name.as_str().starts_with(&prefix) && !names.contains(name) {
                self.book.take_out(name).await.map_err(RoundError::TakeOut)?;
                tracing::info!(
                    sale = name.as_str(),
                    "a sale is gone: its products are sold as ever"
                );
            }
        }
        Ok(())
    }

    async fn read_capacity(&self) -> Result<Capacity, RoundError> {
        let read = async |reference: &Option<AutoscalerRef>| match reference {
            None => Ok(None),
            Some(reference) => Autoscaler::read(&self.client, &self.settings.namespace, reference)
                .await
                .map_err(|error| RoundError::Call("read an autoscaler", error)),
        };
        let (api, workers) =
            tokio::try_join!(read(&self.settings.api), read(&self.settings.workers))?;
        Ok(Capacity { api, workers })
    }

    /// Raises the minimums, or gives back what was found.
    async fn scale(
        &self,
        capacity: &mut Capacity,
        wanting: &[&FlashSaleSpec],
    ) -> Result<(), RoundError> {
        let api = wanting.iter().filter_map(|spec| Some(spec.api.as_ref()?.min_replicas));
        let workers = wanting.iter().filter_map(|spec| Some(spec.workers.as_ref()?.min_replicas));
        let parts: [(_, _, Vec<i32>); 2] = [
            ("api", &mut capacity.api, api.collect()),
            ("workers", &mut capacity.workers, workers.collect()),
        ];
        for (part, autoscaler, wanted) in parts {
            let Some(autoscaler) = autoscaler else { continue };
            let done = autoscaler.apply(&self.client, &self.settings.namespace, wanted).await;
            match done.map_err(|error| RoundError::Call("write an autoscaler", error))? {
                Action::Keep => {}
                Action::Raise(record) => {
                    tracing::info!(part, found = record.found, set = record.set, "minimum raised");
                }
                Action::Restore(minimum) => tracing::info!(part, minimum, "minimum restored"),
            }
        }
        Ok(())
    }

    /// Writes a sale down as it should stand, if it does not. Says whether it is held back.
    async fn write(
        &mut self,
        sale: &FlashSale,
        timeline: Timeline,
        parts: &[Part],
        page: Option<&Page>,
        now: Timestamp,
    ) -> Result<bool, NotWritten> {
        let Some(page) = page else {
            let why = if self.book.has_database() {
                NotWritten::Unavailable
            } else {
                NotWritten::NoDatabase
            };
            return Err(why);
        };
        let name = book::name_of(sale)?;
        let found = page.sales.get(&name);
        // Once it was let go it is not held back again.
        let was_held_back = found.is_none_or(|found| found.held_back);
        let ready = now >= timeline.warms_at && status::is_ready(parts);
        let held_back = !sale.spec.open_when_not_ready && was_held_back && !ready;
        let wanted = book::entry(name, &sale.spec, timeline, held_back);
        if found == Some(&wanted) {
            return Ok(held_back);
        }
        let uid = sale.uid().unwrap_or_default();
        let generation = sale.metadata.generation;
        if let Some((of, at, why)) = self.refused.get(&uid)
            && *of == generation
            && now < *at + REFUSED_AGAIN_AFTER
        {
            return Err(why.clone());
        }
        let written = self.book.write(&wanted).await;
        match &written {
            Ok(()) => {
                self.refused.remove(&uid);
                tracing::info!(sale = wanted.name.as_str(), held_back, "written down");
            }
            Err(why @ NotWritten::Refused { .. }) => {
                self.refused.insert(uid, (generation, now, why.clone()));
            }
            Err(_) => {}
        }
        written.map(|()| held_back)
    }

    /// The depth of the release's queue, if a sale is on.
    async fn depth(&self, wanting: &[&FlashSaleSpec]) -> Option<u64> {
        if wanting.is_empty() {
            return None;
        }
        let SaleSettings { namespace, release, .. } = &self.settings;
        let queues = self.queues.all();
        let queue = queues
            .iter()
            .find(|queue| queue.namespace() == namespace && queue.label("release") == release)?;
        queue.depth().await.ok()
    }

    async fn report(
        &mut self,
        sale: &FlashSale,
        timeline: Option<&Timeline>,
        status: &mut FlashSaleStatus,
        now: Timestamp,
        depth: Option<u64>,
        capacity: &Capacity,
    ) {
        let (Some(timeline), Some(uid)) = (timeline, sale.uid()) else { return };
        let last = self.reported.get(&uid).copied();
        let final_at = timeline.ends_at + LAST_REPORT_AFTER;
        let due = match timeline.phase(now) {
            Phase::Open => last.is_none_or(|last| now < last || now >= last + REPORT_EVERY),
            Phase::Closed => last.is_none_or(|last| last < final_at) && now >= final_at,
            _ => false,
        };
        if !due {
            return;
        }
        let Ok(name) = book::name_of(sale) else { return };
        match self.book.report(&name).await {
            Ok(numbers) => {
                let workers = capacity.workers.as_ref().map_or(0, |workers| workers.ready);
                status::seen(&mut status.report, numbers.as_ref(), depth, workers);
                self.reported.insert(uid, now);
            }
            Err(error) => {
                tracing::debug!(sale = name.as_str(), error = %Chain(&error), "no report");
            }
        }
    }

    /// Writes the status if it has changed, and tells what has turned.
    async fn show(&self, sale: &FlashSale, status: &FlashSaleStatus) -> Result<(), RoundError> {
        if sale.status.as_ref() == Some(status) {
            return Ok(());
        }
        let params =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..Default::default() };
        // What is gone from the report's map must go from the object's.
        let patch = json!({
            "metadata": {"resourceVersion": sale.resource_version()},
            "status": status,
        });
        let patched =
            call(self.sales.patch_status(&sale.name_any(), &params, &Patch::Merge(patch))).await;
        match patched {
            Ok(_) => {}
            // It was deleted meanwhile.
            Err(error) if error.code() == Some(404) => return Ok(()),
            Err(error) => return Err(RoundError::Call("write a sale's status", error)),
        }
        for told in events::turned(sale.status.as_ref(), status) {
            let told = events::tell(&self.client, &self.settings.identity, sale, &told).await;
            if let Err(error) = told {
                tracing::debug!(error = %Chain(&error), "an event was not written");
            }
        }
        Ok(())
    }
}

impl Capacity {
    /// What a sale wants, and what there is of it.
    fn parts(&self, spec: &FlashSaleSpec) -> Vec<Part> {
        let found = |autoscaler: &Option<Autoscaler>| {
            autoscaler.as_ref().map(|it| Found { maximum: it.observed.maximum, ready: it.ready })
        };
        let part = |name, wanted: &Option<super::resource::Capacity>, autoscaler| {
            let wanted = wanted.as_ref()?.min_replicas;
            Some(Part { name, wanted, found: found(autoscaler) })
        };
        [part("workers", &spec.workers, &self.workers), part("api", &spec.api, &self.api)]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// How long it is until something is due: at each turn of a sale exactly, and in between as often as pods come and go.
fn next_round<'a>(timelines: impl Iterator<Item = &'a Timeline>, now: Timestamp) -> Duration {
    let mut next = IDLE;
    for timeline in timelines {
        if now < timeline.ends_at + LAST_REPORT_AFTER + SignedDuration::from_secs(1) {
            next = next.min(BUSY);
        }
        for turn in [timeline.warms_at, timeline.starts_at, timeline.ends_at] {
            if let Ok(until) = Duration::try_from(turn.duration_since(now))
                && !until.is_zero()
            {
                // A little late rather than a little early.
                next = next.min(until + Duration::from_millis(5));
            }
        }
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_round_is_at_the_next_turn() {
        let at = |millis| Timestamp::from_millisecond(millis).unwrap();
        let sale = Timeline { warms_at: at(10_000), starts_at: at(20_000), ends_at: at(30_000) };
        for (now, millis) in [
            (0, 1000),
            (9_700, 305),
            (10_000, 1000),
            (19_999, 6),
            (29_000, 1000),
            (33_500, 1000),
            (40_000, 5000),
        ] {
            let next = next_round([&sale].into_iter(), at(now));
            assert_eq!(next, Duration::from_millis(millis), "at {now}");
        }
    }
}
