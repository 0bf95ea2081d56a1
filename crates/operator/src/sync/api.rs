//! The registration of our API, and why a round failed.

use k8s_openapi::{
    ByteString, apimachinery::pkg::apis::meta::v1::OwnerReference,
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    Own,
    authority::MaterialError,
    calls::{CallError, FIELD_MANAGER, call},
    own::API_SERVICE,
};

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    /// The Secret was not read or written.
    #[error("the Secret with the certificates was not read or written")]
    Secret(#[source] CallError),
    /// Nothing could be issued.
    #[error("no certificate was issued")]
    Issue(#[from] crate::authority::IssueError),
    /// The certificate does not go with its key.
    #[error("the serving certificate cannot be used")]
    Material(#[from] MaterialError),
    /// The APIService was not read or written.
    #[error("the APIService {API_SERVICE} was not read or written")]
    ApiService(#[source] CallError),
    /// The given certificate cannot be read.
    #[error("the given certificate cannot be read")]
    Files(#[from] super::given::GivenError),
}

impl RoundError {
    /// The value of the label `step`.
    pub fn step(&self) -> &'static str {
        match self {
            Self::Secret(_) | Self::Issue(_) | Self::Material(_) => "secret",
            Self::ApiService(_) => "apiservice",
            Self::Files(_) => "files",
        }
    }
}

/// How our API is registered.
#[derive(Clone, Debug, PartialEq)]
pub enum Registered {
    /// It names our Service.
    Ours {
        /// What the API server believes our certificate by, in PEM.
        ca_bundle: Vec<u8>,
        /// What our Secret and Lease go with.
        owner: OwnerReference,
    },
    /// It names somebody else's Service, or none: we leave it alone.
    Others(String),
    /// It is not registered at all.
    Not,
}

/// The APIService.
pub struct Registration {
    api_services: Api<APIService>,
    namespace: String,
    service: String,
    /// Whose it was the last time, so that a change is logged once.
    seen: Option<String>,
}

impl Registration {
    pub fn new(client: Client, own: &Own) -> Self {
        Self {
            api_services: Api::all(client),
            namespace: own.namespace.clone(),
            service: own.service.clone(),
            seen: None,
        }
    }

    /// Reads it.
    pub async fn read(&mut self) -> Result<Registered, RoundError> {
        let read = call(self.api_services.get_opt(API_SERVICE)).await;
        let registered = match read.map_err(RoundError::ApiService)? {
            None => Registered::Not,
            Some(found) => self.of(found),
        };
        let seen = match &registered {
            Registered::Ours { .. } => "ours".to_owned(),
            Registered::Others(owner) => owner.clone(),
            Registered::Not => "nobody's".to_owned(),
        };
        if self.seen.as_ref() != Some(&seen) {
            match &registered {
                Registered::Ours { .. } => tracing::info!("{API_SERVICE} is ours"),
                Registered::Others(owner) => tracing::warn!(
                    owner,
                    "{API_SERVICE} belongs to another: it is left alone, and we are not asked"
                ),
                Registered::Not => {
                    tracing::warn!("{API_SERVICE} is not registered: we are not asked");
                }
            }
            self.seen = Some(seen);
        }
        Ok(registered)
    }

    fn of(&self, found: APIService) -> Registered {
        let spec = found.spec.unwrap_or_default();
        let service = spec.service.unwrap_or_default();
        let (namespace, name) =
            (service.namespace.unwrap_or_default(), service.name.unwrap_or_default());
        if namespace != self.namespace || name != self.service {
            return Registered::Others(format!("Service {namespace}/{name}"));
        }
        Registered::Ours {
            ca_bundle: spec.ca_bundle.map(|bundle| bundle.0).unwrap_or_default(),
            owner: OwnerReference {
                api_version: "apiregistration.k8s.io/v1".to_owned(),
                kind: "APIService".to_owned(),
                name: API_SERVICE.to_owned(),
                uid: found.metadata.uid.unwrap_or_default(),
                block_owner_deletion: None,
                controller: None,
            },
        }
    }

    /// Makes the API server believe these authorities. To be called for one of ours only, by the
    /// replica that writes.
    pub async fn believe(&self, ca_bundle: &[u8]) -> Result<(), RoundError> {
        let patch = json!({ "spec": { "caBundle": ByteString(ca_bundle.to_vec()) } });
        let params =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..Default::default() };
        call(self.api_services.patch(API_SERVICE, &params, &Patch::Merge(patch)))
            .await
            .map_err(RoundError::ApiService)?;
        tracing::info!("the APIService's caBundle was set");
        Ok(())
    }
}
