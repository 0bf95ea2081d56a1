//! Leader election: the replica that holds the Lease writes.
//!
//! `kube-lease-manager` takes and renews the Lease, but does not report when a renewal has succeeded. So the holder
//! checks the Lease itself. It stops writing when it has not seen a renewal within the Lease's duration. It releases
//! the Lease when its jobs make no progress, because another replica may be able to reach what this one cannot.
//!
//! The manager compares the times of the Lease with this host's clock. If the clocks of two hosts differ by more than
//! the duration, both replicas may write for a moment. Then the API server refuses the write that is based on the older
//! version.

use std::{
    convert::Infallible,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::coordination::v1::Lease,
    apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use kube_lease_manager::{LeaseCreateMode, LeaseManager, LeaseManagerError, LeaseParams};
use parking_lot::{Mutex, RwLock};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep, sleep_until, timeout},
};

use crate::{
    ObjectNames, OperatorMetrics,
    calls::{CallError, call_within},
    failures::Failures,
};

/// A holder that makes no progress for this many durations of the Lease releases it.
const NO_PROGRESS: u32 = 2;
/// The longest name of a field manager.
const FIELD_MANAGER_MAX: usize = 128;

/// The owner of the operator's Secret and Lease: the APIService, so that an uninstall of the chart removes them.
#[derive(Clone, Default)]
pub struct Owner(Arc<RwLock<Option<OwnerReference>>>);

impl Owner {
    pub fn set(&self, owner: OwnerReference) {
        *self.0.write() = Some(owner);
    }

    /// In the format of `metadata.ownerReferences`.
    pub fn references(&self) -> Option<Vec<OwnerReference>> {
        self.0.read().clone().map(|owner| vec![owner])
    }
}

/// The time of the last progress of the leader's jobs.
#[derive(Clone)]
pub struct LeaderProgress(Arc<Mutex<Instant>>);

impl Default for LeaderProgress {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl LeaderProgress {
    pub fn made(&self) {
        *self.0.lock() = Instant::now();
    }

    fn age(&self) -> Duration {
        self.0.lock().elapsed()
    }
}

/// Why a replica does not hold the Lease.
#[derive(Debug, thiserror::Error)]
enum LeadershipError {
    #[error("the Lease was not read or written")]
    Call(#[from] CallError),
    #[error("the Lease was not read or written")]
    Manager(#[from] LeaseManagerError),
    #[error("the Lease was not renewed in time")]
    Expired,
    #[error("no progress for {}s; the Lease was released", .0.as_secs())]
    NoProgress(Duration),
}

/// Holds the Lease of the names in `own`, or waits for it.
pub struct Leadership {
    pub client: Client,
    pub own: ObjectNames,
    /// How long the Lease stays valid without a renewal.
    pub duration: Duration,
    pub owner: Owner,
    pub progress: LeaderProgress,
    pub metrics: OperatorMetrics,
    pub failures: Failures,
}

/// The Lease as its holder last saw it.
struct ObservedLease {
    renewed: Option<MicroTime>,
    at: Instant,
    /// The time from which another replica may take it.
    held_until: Instant,
}

impl Leadership {
    /// Tries to hold the Lease until `stop` ends, and reports in `leads` whether it does. Releases the Lease at the
    /// end, so that other replicas do not have to wait.
    pub async fn run(self, leads: watch::Sender<bool>, stop: impl Future<Output = ()>) {
        let mut manager = None;
        tokio::select! {
            never = self.terms(&leads, &mut manager) => match never {},
            () = stop => {}
        }
        let held = *leads.borrow();
        self.show(&leads, false);
        if held && let Some(manager) = manager {
            self.failures.heard("lease", "", self.release(&manager).await);
        }
    }

    async fn terms(
        &self,
        leads: &watch::Sender<bool>,
        manager: &mut Option<LeaseManager>,
    ) -> Infallible {
        loop {
            let ended = self.term(leads, manager).await;
            self.show(leads, false);
            let pause = match &ended {
                Ok(()) => Duration::ZERO,
                // Gives another replica time to take it.
                Err(LeadershipError::NoProgress(_)) => self.round() * 2,
                Err(_) => self.round(),
            };
            self.failures.heard("lease", "", ended);
            sleep(pause).await;
        }
    }

    /// Waits one round for the Lease, and holds it until it is lost.
    async fn term(
        &self,
        leads: &watch::Sender<bool>,
        manager: &mut Option<LeaseManager>,
    ) -> Result<(), LeadershipError> {
        // A new manager reads the Lease immediately. An existing one sleeps until the Lease that it has read expires,
        // although its holder may release it earlier.
        let manager = manager.insert(self.manager().await?);
        let begun = Instant::now();
        match timeout(self.round(), manager.changed()).await {
            Ok(Ok(true)) => {}
            Ok(Err(error)) => return Err(error.into()),
            // Another replica holds it.
            Ok(Ok(false)) | Err(_) => return Ok(()),
        }
        self.progress.made();
        self.show(leads, true);
        let ended = self.hold(manager, begun).await;
        if let Err(LeadershipError::NoProgress(_)) = &ended {
            self.show(leads, false);
            self.release(manager).await?;
        }
        ended
    }

    /// Renews the Lease until it is lost.
    async fn hold(&self, manager: &LeaseManager, begun: Instant) -> Result<(), LeadershipError> {
        let mut seen =
            ObservedLease { renewed: None, at: begun, held_until: begun + self.duration };
        let watch = |pause| async move {
            sleep(pause).await;
            manager.changed().await
        };
        let mut changed = pin!(watch(Duration::ZERO));
        let mut looks = interval(self.round());
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                outcome = &mut changed => {
                    if let Ok(false) = outcome {
                        return Ok(());
                    }
                    self.failures.heard("lease", "renewal", outcome);
                    changed.set(watch(self.round() / 2));
                }
                _ = looks.tick() => if !self.look(&mut seen).await {
                    return Ok(());
                },
                () = sleep_until(seen.held_until.into()) => return Err(LeadershipError::Expired),
            }
            let idle = self.progress.age();
            if idle > self.duration * NO_PROGRESS {
                return Err(LeadershipError::NoProgress(idle));
            }
        }
    }

    /// Checks whether the Lease was renewed; `false` if another replica holds it.
    async fn look(&self, seen: &mut ObservedLease) -> bool {
        let at = Instant::now();
        let leases = Api::<Lease>::namespaced(self.client.clone(), &self.own.namespace);
        let Ok(lease) = call_within(self.round() / 2, leases.get(&self.own.lease)).await else {
            return true;
        };
        let owners = self.owner.references();
        if owners.is_some() && lease.metadata.owner_references != owners {
            let patch = json!({"metadata": {"ownerReferences": owners}});
            let patch = Patch::Merge(&patch);
            let params = PatchParams::default();
            let patched = leases.patch(&self.own.lease, &params, &patch);
            self.failures.heard("lease", "owner", call_within(self.round() / 2, patched).await);
        }
        let spec = lease.spec.unwrap_or_default();
        if spec.holder_identity.as_ref() != Some(&self.own.identity) {
            return false;
        }
        if spec.renew_time != seen.renewed {
            // It was renewed after the previous check.
            let held_until = seen.at + self.duration;
            *seen = ObservedLease { renewed: spec.renew_time, at, held_until };
        }
        true
    }

    async fn manager(&self) -> Result<LeaseManager, LeadershipError> {
        let duration = self.duration.as_secs().max(2);
        // It is renewed after each third of the duration.
        let grace = (duration * 2 / 3).clamp(1, duration - 1);
        // One for each replica, so that two replicas that take the Lease at the same time can be distinguished.
        let identity = &self.own.identity;
        let start = identity.len().saturating_sub(FIELD_MANAGER_MAX);
        let field_manager = identity.get(start..).unwrap_or_default();
        let params = LeaseParams::new(identity, duration, grace).with_field_manager(field_manager);
        let manager = LeaseManager::new(
            self.client.clone(),
            &self.own.lease,
            &self.own.namespace,
            params,
            LeaseCreateMode::AutoCreate,
        );
        Ok(timeout(self.round(), manager).await.map_err(|_elapsed| CallError::Timeout)??)
    }

    async fn release(&self, manager: &LeaseManager) -> Result<(), LeadershipError> {
        let released = timeout(self.round(), manager.release()).await;
        Ok(released.map_err(|_elapsed| CallError::Timeout)??)
    }

    fn round(&self) -> Duration {
        self.duration / 3
    }

    fn show(&self, leads: &watch::Sender<bool>, now: bool) {
        self.metrics.leader.set(i64::from(now));
        leads.send_if_modified(|before| {
            let changed = *before != now;
            if changed {
                tracing::info!(leads = now, "the role of this replica has changed");
            }
            *before = now;
            changed
        });
    }
}
