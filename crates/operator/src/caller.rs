//! Who asks, and whether they may.
//!
//! The API server asks on behalf of somebody: it shows a client certificate of its own
//! (`request_header` checks it) and names the caller in headers. Whether that caller may have the
//! number, the API server is asked in turn ([`access`]).

pub mod access;
pub mod request_header;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use http::HeaderMap;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use parking_lot::RwLock;
use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::time::timeout;

pub use request_header::{RequestHeader, RequestHeaderError, Stranger};

/// The ConfigMap in which the API server says who may speak for others.
const NAMESPACE: &str = "kube-system";
const CONFIG_MAP: &str = "extension-apiserver-authentication";
/// The longest wait for the ConfigMap.
const READ_LIMIT: Duration = Duration::from_secs(5);
/// A certificate that is not believed makes us read the ConfigMap again, but no more often than
/// this: anybody can show one.
const REREAD_PAUSE: Duration = Duration::from_secs(1);

/// Each authenticated caller is in this group.
const AUTHENTICATED: &str = "system:authenticated";
/// Each other caller is in this one.
const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user of requests that nobody has authenticated.
const ANONYMOUS: &str = "system:anonymous";

/// A caller, as the API server names them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    /// The user's name; never empty.
    pub name: String,
    /// The user's id, or nothing.
    pub uid: String,
    /// All groups.
    pub groups: Vec<String>,
    /// What else is known of them.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Adds the group of all authenticated callers. A front proxy does not name it for callers of
    /// its own, such as the aggregator that reads discovery, so every server adds it: see
    /// `AuthenticatedGroupAdder` in `k8s.io/apiserver/pkg/authentication/group`.
    #[must_use]
    fn with_authenticated_group(mut self) -> Self {
        let told = |group: &String| group == AUTHENTICATED || group == UNAUTHENTICATED;
        if self.name != ANONYMOUS && !self.groups.iter().any(told) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }

    /// Whether the caller is authenticated.
    pub fn is_authenticated(&self) -> bool {
        self.groups.iter().any(|group| group == AUTHENTICATED)
    }
}

/// Why the ConfigMap could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The API server did not answer in time.
    #[error("the API server did not answer in time")]
    Timeout,
    /// The ConfigMap cannot be read.
    #[error("{NAMESPACE}/{CONFIG_MAP} cannot be read")]
    Read(#[source] Box<kube::Error>),
    /// What it holds cannot be used. What was known before is still believed.
    #[error("{NAMESPACE}/{CONFIG_MAP} cannot be used")]
    Content(#[from] RequestHeaderError),
}

/// What we know of who may speak for others. Cheap to clone; all clones know the same.
#[derive(Clone)]
pub struct Callers(Arc<Inner>);

struct Inner {
    config_maps: Api<ConfigMap>,
    known: RwLock<Option<Arc<RequestHeader>>>,
    last_read: tokio::sync::Mutex<Option<Instant>>,
}

impl Callers {
    /// Knows nobody before the first [`reload`](Self::reload).
    pub fn new(client: Client) -> Self {
        Self(Arc::new(Inner {
            config_maps: Api::namespaced(client, NAMESPACE),
            known: RwLock::new(None),
            last_read: tokio::sync::Mutex::new(None),
        }))
    }

    /// Whether it has been read at all.
    pub fn known(&self) -> bool {
        self.0.known.read().is_some()
    }

    /// Reads the ConfigMap.
    ///
    /// # Errors
    /// See [`ReloadError`]; what was known before stays.
    pub async fn reload(&self) -> Result<(), ReloadError> {
        let read = timeout(READ_LIMIT, self.0.config_maps.get(CONFIG_MAP)).await;
        let config_map = read
            .map_err(|_elapsed| ReloadError::Timeout)?
            .map_err(|error| ReloadError::Read(Box::new(error)))?;
        let read = RequestHeader::from_config_map(&config_map.data.unwrap_or_default())?;
        *self.0.known.write() = Some(Arc::new(read));
        Ok(())
    }

    /// Says who asks. If the certificate is not believed, the ConfigMap may have changed since it
    /// was read: it is read again first.
    ///
    /// # Errors
    /// No caller is named, or not by somebody who may.
    pub async fn identify(
        &self,
        certificates: &[CertificateDer<'static>],
        headers: &HeaderMap,
    ) -> Result<User, Stranger> {
        match self.ask(certificates, headers) {
            Err(Stranger::Unknown | Stranger::NotYet) if !certificates.is_empty() => {
                self.reread().await;
                self.ask(certificates, headers)
            }
            result => result,
        }
    }

    fn ask(
        &self,
        certificates: &[CertificateDer<'static>],
        headers: &HeaderMap,
    ) -> Result<User, Stranger> {
        let known = self.0.known.read().clone().ok_or(Stranger::NotYet)?;
        known.user(certificates, headers, UnixTime::now())
    }

    async fn reread(&self) {
        // Who waits here finds what the one before has read.
        let mut last_read = self.0.last_read.lock().await;
        if last_read.is_some_and(|at| at.elapsed() < REREAD_PAUSE) {
            return;
        }
        if let Err(error) = self.reload().await {
            let error = holdfast_telemetry::Chain(&error);
            tracing::warn!(%error, "who may speak for others could not be read again");
        }
        *last_read = Some(Instant::now());
    }
}
