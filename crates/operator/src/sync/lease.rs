//! Which replica writes: the one that holds the Lease.
//!
//! As client-go does it (`tools/leaderelection`): a holder that renews is believed; one whose Lease
//! has not changed for its duration, by our own clock, is taken to be gone. Two replicas may take
//! themselves for the holder for a moment, if a clock stands still; what they write is then refused
//! by the version of what they read.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams, core::ObjectMeta};
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::{
    OperatorMetrics, Own,
    calls::{CallError, FIELD_MANAGER, call},
};

/// What our objects go with when it is deleted: the APIService, so that an uninstall of the chart
/// takes them along.
#[derive(Clone, Default)]
pub struct Owner(Arc<RwLock<Option<OwnerReference>>>);

impl Owner {
    pub fn set(&self, owner: OwnerReference) {
        *self.0.write() = Some(owner);
    }

    pub fn get(&self) -> Option<OwnerReference> {
        self.0.read().clone()
    }
}

/// Holds the Lease, or waits for it.
pub struct Elector {
    leases: Api<Lease>,
    name: String,
    identity: String,
    duration: Duration,
    owner: Owner,
    metrics: OperatorMetrics,
    /// The Lease as it was when it last changed, and when that was.
    observed: Option<(Option<LeaseSpec>, Instant)>,
    /// Until when we hold it, whatever happens.
    held_until: Option<Instant>,
}

impl Elector {
    /// For the Lease that `own` names. The owner is filled in as soon as it is known.
    pub fn new(
        client: Client,
        own: &Own,
        duration: Duration,
        owner: Owner,
        metrics: OperatorMetrics,
    ) -> Self {
        Self {
            leases: Api::namespaced(client, &own.namespace),
            name: own.lease.clone(),
            identity: own.identity.clone(),
            duration,
            owner,
            metrics,
            observed: None,
            held_until: None,
        }
    }

    /// Tries until `stop` ends, and says in `leading` how it stands. At the end it gives the Lease
    /// back, so that nobody waits for it.
    pub async fn run(mut self, leading: watch::Sender<bool>, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut failing = false;
        loop {
            match self.round().await {
                Ok(()) => failing = false,
                Err(error) => {
                    self.metrics.sync_failures.with_label_values(&["lease"]).inc();
                    if !failing {
                        let error = holdfast_telemetry::Chain(&error);
                        tracing::warn!(%error, "the Lease was not read or renewed");
                        failing = true;
                    }
                }
            }
            let leads = self.held_until.is_some_and(|until| Instant::now() < until);
            self.metrics.leader.set(i64::from(leads));
            leading.send_if_modified(|before| {
                let changed = *before != leads;
                if changed {
                    tracing::info!(leads, "which replica writes has changed");
                }
                *before = leads;
                changed
            });
            tokio::select! {
                () = tokio::time::sleep(self.duration / 3) => {}
                () = &mut stop => break,
            }
        }
        let held = *leading.borrow();
        leading.send_replace(false);
        if held && let Err(error) = self.release().await {
            let error = holdfast_telemetry::Chain(&error);
            tracing::warn!(%error, "the Lease was not given back");
        }
        self.metrics.leader.set(0);
    }

    async fn round(&mut self) -> Result<(), CallError> {
        let begun = Instant::now();
        let taken = match call(self.leases.get_opt(&self.name)).await? {
            None => self.create().await,
            Some(lease) if self.may_take(&lease) => self.take(lease).await,
            Some(_) => {
                self.held_until = None;
                return Ok(());
            }
        };
        if taken.as_ref().is_err_and(CallError::is_conflict) {
            self.held_until = None;
            return Ok(());
        }
        taken?;
        // Counted from before the call, and shorter than others wait.
        self.held_until = Some(begun + self.duration * 2 / 3);
        Ok(())
    }

    fn may_take(&mut self, lease: &Lease) -> bool {
        if self.observed.as_ref().is_none_or(|(spec, _)| *spec != lease.spec) {
            self.observed = Some((lease.spec.clone(), Instant::now()));
        }
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        if holder.is_empty() || holder == self.identity {
            return true;
        }
        let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or_default());
        let duration = seconds.map_or(self.duration, Duration::from_secs).max(self.duration);
        self.observed.as_ref().is_some_and(|(_, since)| since.elapsed() > duration)
    }

    async fn create(&self) -> Result<Lease, CallError> {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                owner_references: self.owner.get().map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            spec: Some(self.spec(None)),
        };
        call(self.leases.create(&params(), &lease)).await
    }

    async fn take(&self, mut lease: Lease) -> Result<Lease, CallError> {
        if let Some(owner) = self.owner.get() {
            lease.metadata.owner_references = Some(vec![owner]);
        }
        lease.spec = Some(self.spec(lease.spec));
        call(self.leases.replace(&self.name, &params(), &lease)).await
    }

    async fn release(&self) -> Result<(), CallError> {
        let Some(mut lease) = call(self.leases.get_opt(&self.name)).await? else { return Ok(()) };
        let mut spec = lease.spec.take().unwrap_or_default();
        if spec.holder_identity.as_ref() != Some(&self.identity) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        lease.spec = Some(spec);
        let released = call(self.leases.replace(&self.name, &params(), &lease)).await;
        if released.as_ref().is_err_and(CallError::is_conflict) {
            Ok(())
        } else {
            released.map(drop)
        }
    }

    fn spec(&self, before: Option<LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let before = before.unwrap_or_default();
        let ours = before.holder_identity.as_ref() == Some(&self.identity);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.duration.as_secs().max(1)).ok(),
            acquire_time: if ours { before.acquire_time } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(
                before.lease_transitions.unwrap_or_default().saturating_add(i32::from(!ours)),
            ),
            ..LeaseSpec::default()
        }
    }
}

fn params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}
