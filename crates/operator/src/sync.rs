//! The loop that keeps what we know and what we have registered right.
//!
//! Each round reads everything anew and compares: a round that fails, a replica that dies in the
//! middle, a Secret that somebody deletes, all are put right by the next round. Every replica
//! reads; only the one that holds the Lease writes, and Kubernetes refuses a write that is based
//! on an older reading than its own.

mod api;
mod given;
mod identity;
mod lease;

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use holdfast_telemetry::{Chain, Readiness};
use kube::Client;
use tokio::sync::watch;

pub use lease::{Elector, Owner};

use crate::{
    OperatorMetrics, Own, authority::Authority, caller::Callers, queues::Queues, tls::Served,
};
use api::Registration;
use given::Given;
use identity::Identity;

/// The pause between rounds until everything has been there once.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Where the serving certificate comes from.
#[derive(Clone, Debug)]
pub enum Certificates {
    /// From our own authority.
    Own(Authority),
    /// From this folder; see `given`.
    Given(PathBuf),
}

/// What the rounds work on.
pub struct Parts {
    /// Who we are.
    pub own: Own,
    /// The API server.
    pub client: Client,
    /// Who may speak for others.
    pub callers: Callers,
    /// The list of queues.
    pub queues: Queues,
    /// Where the certificate goes.
    pub served: Served,
    /// What is to be seen of us.
    pub metrics: OperatorMetrics,
    /// Whether we want to be asked.
    pub readiness: Readiness,
    /// Whether we are the one that writes.
    pub leading: watch::Receiver<bool>,
    /// What our Secret and Lease belong to, for the Lease.
    pub owner: lease::Owner,
}

/// Does rounds until it is dropped.
pub async fn run(mut parts: Parts, certificates: Certificates, interval: Duration) {
    let registration = Registration::new(parts.client.clone(), &parts.own);
    let mut source = match certificates {
        Certificates::Own(authority) => {
            Source::Own(Box::new(Identity::new(&parts, registration, authority, interval)))
        }
        Certificates::Given(folder) => {
            Source::Given(Box::new(Given::new(&parts, registration, folder)))
        }
    };
    let mut failing = Failing { metrics: parts.metrics.clone(), steps: BTreeSet::new() };
    loop {
        failing.heard("request_header", parts.callers.reload().await);
        let listed = parts.queues.reload().await;
        if matches!(listed, Ok(true)) {
            tracing::info!(queues = parts.queues.all().len(), "the list of queues has changed");
        }
        parts.metrics.listed(&parts.queues.all(), matches!(listed, Ok(true)));
        failing.heard("queues", listed.map(drop));
        let leading = *parts.leading.borrow_and_update();
        let round = match &mut source {
            Source::Own(identity) => identity.round(leading).await,
            Source::Given(given) => given.round(leading).await,
        };
        let believed = match round {
            Ok(believed) => {
                for step in ["secret", "apiservice", "files"] {
                    failing.heard(step, Ok::<_, api::RoundError>(()));
                }
                believed
            }
            Err(error) => {
                failing.heard(error.step(), Err::<(), _>(error));
                // What was right a moment ago still is.
                parts.readiness.get().is_ok()
            }
        };
        let ready = show(&parts, believed);
        let pause = if ready { interval } else { interval.min(FIRST_PAUSE) };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // Who has just become the one that writes may have something to write.
            Ok(()) = parts.leading.changed() => {}
        }
    }
}

enum Source {
    Own(Box<Identity>),
    Given(Box<Given>),
}

/// Redis is not part of it: an operator that is not ready makes the whole API unavailable, which
/// on a cluster holds up more than our numbers (kubernetes#75788).
fn show(parts: &Parts, believed: bool) -> bool {
    let reason = if parts.served.get().is_none() {
        "there is no serving certificate yet"
    } else if !parts.callers.known() {
        "who may speak for others is not known yet"
    } else if !believed {
        "the API server does not believe the serving certificate yet"
    } else {
        parts.readiness.ready();
        return true;
    };
    parts.readiness.not_ready(reason);
    false
}

/// Steps that failed the last time: a failure is logged when it begins and when it ends.
struct Failing {
    metrics: OperatorMetrics,
    steps: BTreeSet<&'static str>,
}

impl Failing {
    fn heard<E: std::error::Error + 'static>(&mut self, step: &'static str, result: Result<(), E>) {
        match result {
            Ok(()) => {
                if self.steps.remove(step) {
                    tracing::info!(step, "works again");
                }
            }
            Err(error) => {
                self.metrics.sync_failures.with_label_values(&[step]).inc();
                if self.steps.insert(step) {
                    let error = Chain(&error);
                    tracing::warn!(step, %error, "failed; trying again until it works");
                }
            }
        }
    }
}
