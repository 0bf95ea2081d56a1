//! The jobs that keep certificates, registration, trusted front proxies and the list of queues up to date.
//!
//! Each round reads everything again and compares. So the next round corrects a failed round, a replica that ended in
//! the middle, or a deleted Secret. Every replica reads, but only the one that holds the Lease writes, and Kubernetes
//! refuses a write that is based on an older version.

mod certificate_folder;
mod definition;
mod error;
mod own_authority;
mod registration;
mod serving;

use std::{convert::Infallible, path::PathBuf, sync::Arc, time::Duration};

use holdfast_telemetry::Readiness;
use kube::{Api, Client};
use tokio::sync::watch;

use crate::{
    ObjectNames, OperatorMetrics,
    authority::Authority,
    caller::{Callers, ReloadError},
    failures::Failures,
    jobs,
    leadership::Owner,
    queues::{FileError, Queues},
    tls::ServedCertificate,
};
use certificate_folder::CertificateFolder;
use definition::{Definition, DefinitionError};
use own_authority::OwnAuthority;
pub use registration::Registration;
use serving::Serving;

/// The pause between rounds until the operator is ready.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The definition of FlashSale is checked once in this many intervals.
const SELDOM: u32 = 12;

/// The source of the serving certificate.
#[derive(Clone, Debug)]
pub enum Certificates {
    /// The operator's own authority.
    Issued(Authority),
    /// This folder; see `certificate_folder`.
    Folder(PathBuf),
}

/// The parameters of the jobs.
pub struct Parts {
    pub own: ObjectNames,
    pub client: Client,
    pub callers: Callers,
    pub queues: Queues,
    pub served: ServedCertificate,
    pub metrics: OperatorMetrics,
    pub readiness: Readiness,
    /// Whether this replica is the leader.
    pub leading: watch::Receiver<bool>,
    pub owner: Owner,
    /// Whether the leader upgrades the definition of FlashSale.
    pub upgrades_definition: bool,
    pub failures: Failures,
}

/// Runs rounds until it is dropped.
pub async fn run(parts: Parts, certificates: Certificates, interval: Duration) {
    let registration = Registration::new(parts.client.clone(), &parts.own);
    let serving = Serving { served: parts.served.clone(), metrics: parts.metrics.clone() };
    let owner = parts.owner.clone();
    let mut source = match certificates {
        Certificates::Issued(authority) => {
            let secrets = Api::namespaced(parts.client.clone(), &parts.own.namespace);
            let secret = parts.own.tls_secret.clone();
            CertificateSource::Issued(Box::new(OwnAuthority::new(
                secrets,
                secret,
                authority,
                registration,
                owner,
                serving,
                interval,
            )))
        }
        Certificates::Folder(folder) => CertificateSource::Folder(Box::new(
            CertificateFolder::new(folder, registration, owner, serving),
        )),
    };
    let parts = Arc::new(parts);
    let trusted = {
        let parts = Arc::clone(&parts);
        jobs::repeat("request_header", "", parts.failures.clone(), move || {
            let parts = Arc::clone(&parts);
            async move {
                parts.callers.reload().await?;
                Ok::<_, ReloadError>(pause(&parts, interval))
            }
        })
    };
    let listed = {
        let parts = Arc::clone(&parts);
        jobs::repeat("queues", "", parts.failures.clone(), move || {
            let parts = Arc::clone(&parts);
            async move {
                let changed = parts.queues.reload().await?;
                let queues = parts.queues.all();
                if changed {
                    tracing::info!(queues = queues.len(), "the list of queues has changed");
                }
                parts.metrics.listed(&queues, changed);
                Ok::<_, FileError>(interval)
            }
        })
    };
    let defined = {
        let (parts, definition) = (Arc::clone(&parts), Definition::new(parts.client.clone()));
        let definition = Arc::new(definition);
        jobs::repeat("definition", "", parts.failures.clone(), move || {
            let (parts, definition) = (Arc::clone(&parts), Arc::clone(&definition));
            async move {
                if !parts.upgrades_definition || !*parts.leading.borrow() {
                    return Ok::<_, DefinitionError>(interval);
                }
                definition.upgrade().await?;
                Ok(interval * SELDOM)
            }
        })
    };
    tokio::join!(trusted, listed, defined, certify(&parts, &mut source, interval));
}

/// Keeps the certificate and the registration up to date.
async fn certify(parts: &Parts, source: &mut CertificateSource, interval: Duration) -> Infallible {
    loop {
        let leading = *parts.leading.borrow();
        let round = match source {
            CertificateSource::Issued(identity) => identity.round(leading).await,
            CertificateSource::Folder(given) => given.round(leading).await,
        };
        let believed = match round {
            Ok(believed) => {
                for step in ["secret", "apiservice", "files"] {
                    parts.failures.heard(step, "", Ok::<_, Infallible>(()));
                }
                believed
            }
            Err(error) => {
                parts.failures.heard(error.step(), "", Err::<(), _>(error));
                // The previous result is still valid.
                parts.readiness.get().is_ok()
            }
        };
        show(parts, believed);
        tokio::time::sleep(pause(parts, interval)).await;
    }
}

fn pause(parts: &Parts, interval: Duration) -> Duration {
    if parts.readiness.get().is_ok() { interval } else { interval.min(FIRST_PAUSE) }
}

enum CertificateSource {
    Issued(Box<OwnAuthority>),
    Folder(Box<CertificateFolder>),
}

/// Redis is not included: an operator that is not ready makes the whole API unavailable, which affects more of a
/// cluster than these metrics (kubernetes#75788).
fn show(parts: &Parts, believed: bool) {
    let reason = if parts.served.get().is_none() {
        "there is no serving certificate yet"
    } else if !parts.callers.known() {
        "the trusted front proxies are not known yet"
    } else if !believed {
        "the API server does not trust the serving certificate yet"
    } else {
        return parts.readiness.ready();
    };
    parts.readiness.not_ready(reason);
}
