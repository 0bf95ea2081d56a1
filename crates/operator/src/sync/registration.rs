//! The registration of the external metrics API.

use k8s_openapi::{
    ByteString, apimachinery::pkg::apis::meta::v1::OwnerReference,
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::error::RoundError;
use crate::{
    calls::{FIELD_MANAGER, call},
    object_names::{API_SERVICE, ObjectNames},
};

/// The state of the registration.
#[derive(Clone, Debug, PartialEq)]
pub enum Registered {
    /// For this operator's Service.
    Ours {
        /// The authorities that the API server trusts, in PEM.
        ca_bundle: Vec<u8>,
        /// The owner of this operator's objects.
        owner: OwnerReference,
    },
    /// For another Service, or for none. It is not changed.
    Others(String),
    Not,
}

pub struct Registration {
    api_services: Api<APIService>,
    namespace: String,
    service: String,
    /// The previous state, so that a change is logged once.
    seen: Option<String>,
}

impl Registration {
    pub fn new(client: Client, own: &ObjectNames) -> Self {
        Self {
            api_services: Api::all(client),
            namespace: own.namespace.clone(),
            service: own.service.clone(),
            seen: None,
        }
    }

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
                Registered::Ours { .. } => {
                    tracing::info!("{API_SERVICE} is registered for this operator");
                }
                Registered::Others(owner) => tracing::warn!(
                    owner,
                    "{API_SERVICE} is registered for another Service: this operator does not change it and gets no requests"
                ),
                Registered::Not => {
                    tracing::warn!(
                        "{API_SERVICE} is not registered: this operator gets no requests"
                    );
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

    /// Makes the API server trust these authorities. Only the leader does this, and only for a registration of this
    /// operator.
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
