//! The caller of a request, and what it may read.
//!
//! The API server sends requests on behalf of callers: it presents its own client certificate (`request_header` checks
//! it) and names the caller in headers. An access review decides whether that caller may read the metric ([`access`]).

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

use crate::calls::{CallError, call};
pub use request_header::{NotIdentified, RequestHeader, RequestHeaderError};

/// The ConfigMap in which the API server publishes who may name callers.
const NAMESPACE: &str = "kube-system";
const CONFIG_MAP: &str = "extension-apiserver-authentication";
/// A certificate that is not trusted makes the operator read the ConfigMap again, but at most this often, because any
/// client can present one.
const REREAD_PAUSE: Duration = Duration::from_secs(1);

const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user of unauthenticated requests.
const ANONYMOUS: &str = "system:anonymous";

/// A caller, as named by the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    /// Never empty.
    pub name: String,
    /// May be empty.
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Adds the group of all authenticated callers. A front proxy does not name it for its own requests, such as those
    /// of the aggregator for discovery, so every server adds it: see `AuthenticatedGroupAdder` in
    /// `k8s.io/apiserver/pkg/authentication/group`.
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

/// Why the ConfigMap could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error("{NAMESPACE}/{CONFIG_MAP} cannot be read")]
    Read(#[source] CallError),
    /// The previous contents stay in force.
    #[error("{NAMESPACE}/{CONFIG_MAP} cannot be used")]
    Content(#[from] RequestHeaderError),
}

/// The front proxies that may name callers. Cheap to clone; all clones share the state.
#[derive(Clone)]
pub struct Callers(Arc<CallersState>);

struct CallersState {
    config_maps: Api<ConfigMap>,
    known: RwLock<Option<Arc<RequestHeader>>>,
    last_read: tokio::sync::Mutex<Option<Instant>>,
}

impl Callers {
    /// Trusts no front proxy before the first [`reload`](Self::reload).
    pub fn new(client: Client) -> Self {
        Self(Arc::new(CallersState {
            config_maps: Api::namespaced(client, NAMESPACE),
            known: RwLock::new(None),
            last_read: tokio::sync::Mutex::new(None),
        }))
    }

    /// Whether the ConfigMap has been read at least once.
    pub fn known(&self) -> bool {
        self.0.known.read().is_some()
    }

    /// Reads the ConfigMap.
    pub async fn reload(&self) -> Result<(), ReloadError> {
        let config_map =
            call(self.0.config_maps.get(CONFIG_MAP)).await.map_err(ReloadError::Read)?;
        let read = RequestHeader::from_config_map(&config_map.data.unwrap_or_default())?;
        *self.0.known.write() = Some(Arc::new(read));
        Ok(())
    }

    /// Returns the caller. If the certificate is not trusted, the ConfigMap may have changed, so it is read again
    /// first.
    ///
    /// # Errors
    /// No caller is named, or the client may not name callers.
    pub async fn identify(
        &self,
        certificates: &[CertificateDer<'static>],
        headers: &HeaderMap,
    ) -> Result<User, NotIdentified> {
        match self.ask(certificates, headers) {
            Err(NotIdentified::NotBelieved | NotIdentified::NotYet) if !certificates.is_empty() => {
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
    ) -> Result<User, NotIdentified> {
        let known = self.0.known.read().clone().ok_or(NotIdentified::NotYet)?;
        known.user(certificates, headers, UnixTime::now())
    }

    async fn reread(&self) {
        // A task that waited here uses what the previous one has read.
        let mut last_read = self.0.last_read.lock().await;
        if last_read.is_some_and(|at| at.elapsed() < REREAD_PAUSE) {
            return;
        }
        if let Err(error) = self.reload().await {
            let error = holdfast_telemetry::Chain(&error);
            tracing::warn!(%error, "the trusted front proxies could not be read again");
        }
        *last_read = Some(Instant::now());
    }
}
