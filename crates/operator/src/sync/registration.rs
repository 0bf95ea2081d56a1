//! The registration of the external metrics API.
//!
//! While an API is registered and its server does not answer, Kubernetes deletes no namespace. So the replicas of a
//! Deployment that is scaled to 0 remove the registration when they end, and a leader that finds none when it starts
//! creates it again. A registration that is removed later stays removed: an uninstall removes it before the operator.

use k8s_openapi::{
    ByteString, api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::OwnerReference,
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
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

/// The field manager of a registration that the operator creates: Helm's, so that `helm upgrade` may change its fields.
const HELM: &str = "helm";
/// The annotations by which Helm knows its objects.
const HELM_ANNOTATIONS: &str = "meta.helm.sh/";

pub struct Registration {
    api_services: Api<APIService>,
    deployments: Api<Deployment>,
    deployment: Option<String>,
    namespace: String,
    service: String,
    /// The previous state, so that a change is logged once.
    seen: Option<String>,
    /// Whether there was a registration since this process started.
    existed: bool,
}

impl Registration {
    pub fn new(client: Client, own: &ObjectNames) -> Self {
        Self {
            api_services: Api::all(client.clone()),
            deployments: Api::namespaced(client, &own.namespace),
            deployment: own.deployment.clone(),
            namespace: own.namespace.clone(),
            service: own.service.clone(),
            seen: None,
            existed: false,
        }
    }

    /// Reads the registration. A leader that has never seen one creates it.
    pub async fn read(&mut self, leading: bool) -> Result<Registered, RoundError> {
        let mut found = self.find().await?;
        if found.is_none() && leading && !self.existed {
            // Boxed, because a Deployment is large and this is rare.
            found = Box::pin(self.create_if_wanted()).await?;
        }
        self.existed |= found.is_some();
        let registered = match found {
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

    async fn find(&self) -> Result<Option<APIService>, RoundError> {
        let found = call(self.api_services.get_opt(API_SERVICE)).await;
        found.map_err(RoundError::ApiService)
    }

    /// The operator's Deployment, unless it is being deleted.
    async fn deployment(&self) -> Result<Option<Deployment>, RoundError> {
        let Some(name) = &self.deployment else { return Ok(None) };
        let found = call(self.deployments.get_opt(name)).await.map_err(RoundError::Deployment)?;
        Ok(found.filter(|found| found.metadata.deletion_timestamp.is_none()))
    }

    /// Registers this operator, unless its Deployment is scaled to 0.
    async fn create_if_wanted(&self) -> Result<Option<APIService>, RoundError> {
        let Some(deployment) = self.deployment().await? else { return Ok(None) };
        if wanted_replicas(&deployment) == 0 {
            return Ok(None);
        }
        self.create(deployment).await?;
        self.find().await
    }

    /// Registers this operator, with the fields of the chart's template. The labels and Helm's annotations are those of
    /// the Deployment, because `helm uninstall` does not remove an object without them.
    async fn create(&self, deployment: Deployment) -> Result<(), RoundError> {
        let mut annotations = deployment.metadata.annotations.unwrap_or_default();
        annotations.retain(|name, _| name.starts_with(HELM_ANNOTATIONS));
        let registration = json!({
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {
                "name": API_SERVICE,
                "labels": deployment.metadata.labels.unwrap_or_default(),
                "annotations": annotations,
            },
            "spec": {
                "group": "external.metrics.k8s.io",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "service": {"namespace": self.namespace, "name": self.service, "port": 443},
            },
        });
        // Applied instead of created, because a right to create cannot be limited to a name otherwise.
        let params = PatchParams::apply(HELM);
        call(self.api_services.patch(API_SERVICE, &params, &Patch::Apply(registration)))
            .await
            .map_err(RoundError::ApiService)?;
        tracing::info!("{API_SERVICE} was not registered; this operator has registered it");
        Ok(())
    }

    /// Removes the registration of this operator if its Deployment is scaled to 0. Returns whether it did. If
    /// this is cancelled, the registration may be left.
    pub async fn withdraw(&self) -> Result<bool, RoundError> {
        if self.deployment().await?.is_none_or(|found| wanted_replicas(&found) > 0) {
            return Ok(false);
        }
        let Some(found) = self.find().await? else { return Ok(false) };
        let uid = found.metadata.uid.clone();
        let Registered::Ours { .. } = self.of(found) else { return Ok(false) };
        let preconditions = Some(Preconditions { uid, resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        match call(self.api_services.delete(API_SERVICE, &params)).await {
            Ok(_) => Ok(true),
            // Another replica has removed it.
            Err(error) if error.code() == Some(404) => Ok(false),
            Err(error) => Err(RoundError::ApiService(error)),
        }
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

fn wanted_replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}
