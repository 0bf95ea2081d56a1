//! The autoscalers whose minimums sales raise, as objects of the API server.

use std::fmt;

use holdfast_domain::json;
use k8s_openapi::{
    api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::{ApiResource, GroupVersionKind, NotUsed, Object},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::minimum::{ANNOTATION, MinimumChange, Observed, Record, plan};
use crate::calls::{CallError, FIELD_MANAGER, call};

/// KEDA's default for the maximum of a `ScaledObject`.
const KEDA_MAXIMUM: i64 = 100;

/// A reference to an autoscaler, such as `HorizontalPodAutoscaler/holdfast-worker`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoscalerRef {
    kind: AutoscalerKind,
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AutoscalerKind {
    Hpa,
    ScaledObject,
}

impl AutoscalerKind {
    fn name(self) -> &'static str {
        match self {
            Self::Hpa => "HorizontalPodAutoscaler",
            Self::ScaledObject => "ScaledObject",
        }
    }

    fn resource(self) -> ApiResource {
        ApiResource::from_gvk(&match self {
            Self::Hpa => GroupVersionKind::gvk("autoscaling", "v2", self.name()),
            Self::ScaledObject => GroupVersionKind::gvk("keda.sh", "v1alpha1", self.name()),
        })
    }

    /// The fields of the minimum and the maximum, and their defaults.
    fn fields(self) -> [(&'static str, i64); 2] {
        match self {
            Self::Hpa => [("minReplicas", 1), ("maxReplicas", 1)],
            Self::ScaledObject => [("minReplicaCount", 0), ("maxReplicaCount", KEDA_MAXIMUM)],
        }
    }
}

/// The fields of an autoscaler that are read. The others may be JSON of any shape and are skipped, because parsing them
/// would recurse.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    scale_target_ref: Option<ScaleTargetRef>,
    min_replicas: Option<i64>,
    max_replicas: Option<i64>,
    min_replica_count: Option<i64>,
    max_replica_count: Option<i64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct ScaleTargetRef {
    name: String,
}

impl Spec {
    /// Minimum and maximum.
    fn limits(&self, kind: AutoscalerKind) -> [Option<i64>; 2] {
        match kind {
            AutoscalerKind::Hpa => [self.min_replicas, self.max_replicas],
            AutoscalerKind::ScaledObject => [self.min_replica_count, self.max_replica_count],
        }
    }
}

impl fmt::Display for AutoscalerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.name(), self.name)
    }
}

impl std::str::FromStr for AutoscalerRef {
    type Err = holdfast_telemetry::settings::MustBe;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, name) = text.split_once('/').unwrap_or_default();
        let kind = [AutoscalerKind::Hpa, AutoscalerKind::ScaledObject]
            .into_iter()
            .find(|it| it.name() == kind);
        match kind {
            Some(kind) if crate::kubernetes_names::is_dns_name(name) => {
                Ok(Self { kind, name: name.to_owned() })
            }
            _ => Err(holdfast_telemetry::settings::MustBe::new(
                "must be HorizontalPodAutoscaler/NAME or ScaledObject/NAME",
            )),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Autoscaler {
    kind: AutoscalerKind,
    object: Object<Spec, NotUsed>,
    /// The minimum, the maximum and the record.
    pub observed: Observed,
    /// The ready pods of its Deployment.
    pub ready: i32,
}

impl Autoscaler {
    /// Reads an autoscaler with its Deployment; `None` if it does not exist.
    ///
    /// # Errors
    /// The API server does not answer, or refuses.
    pub async fn read(
        client: &Client,
        namespace: &str,
        reference: &AutoscalerRef,
    ) -> Result<Option<Self>, CallError> {
        let AutoscalerRef { kind, name } = reference;
        let Some(object) = call(api(client, namespace, *kind).get_opt(name)).await? else {
            return Ok(None);
        };
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
        let target = object.spec.scale_target_ref.as_ref();
        let target = target.map_or("", |target| target.name.as_str());
        let deployment = call(deployments.get_opt(target)).await?;
        let ready =
            deployment.and_then(|deployment| deployment.status?.ready_replicas).unwrap_or_default();
        let observed = observe(*kind, &object);
        Ok(Some(Self { kind: *kind, object, observed, ready }))
    }

    /// Sets the minimum that the sales want now, or restores the original one. Returns what was done.
    ///
    /// # Errors
    /// The API server does not answer, or refuses: with a conflict if another client has changed the autoscaler in the
    /// meantime.
    pub async fn apply(
        &mut self,
        client: &Client,
        namespace: &str,
        wanted: impl IntoIterator<Item = i32>,
    ) -> Result<MinimumChange, CallError> {
        let action = plan(self.observed, wanted);
        let (minimum, record) = match action {
            // An operator may have ended before it released the field.
            MinimumChange::Keep if self.is_claimed() => {
                self.give_back(client, namespace).await?;
                return Ok(action);
            }
            MinimumChange::Keep => return Ok(action),
            MinimumChange::Raise(record) => (record.set, json!(record).to_string().into()),
            MinimumChange::Restore(minimum) => (minimum, Value::Null),
        };
        let [(field, _), _] = self.kind.fields();
        let patch = json!({
            "metadata": {
                "resourceVersion": self.object.metadata.resource_version,
                "annotations": {ANNOTATION: record},
            },
            "spec": {field: minimum},
        });
        self.patch(client, namespace, &patch).await?;
        self.give_back(client, namespace).await?;
        Ok(action)
    }

    /// Whether the API server has recorded this operator as the manager of fields.
    fn is_claimed(&self) -> bool {
        self.object.metadata.managed_fields.iter().flatten().any(is_ours)
    }

    /// The field is released after it was set. Otherwise, a server-side apply of the object (as by Helm 4) would be
    /// refused because of a conflict with the operator.
    async fn give_back(&mut self, client: &Client, namespace: &str) -> Result<(), CallError> {
        let claims = self.object.metadata.managed_fields.iter().flatten();
        let others: Vec<_> = claims.filter(|entry| !is_ours(entry)).collect();
        // An empty list would change nothing.
        let others = if others.is_empty() { json!([{}]) } else { json!(others) };
        let patch = json!({
            "metadata": {
                "resourceVersion": self.object.metadata.resource_version,
                "managedFields": others,
            },
        });
        self.patch(client, namespace, &patch).await
    }

    async fn patch(
        &mut self,
        client: &Client,
        namespace: &str,
        patch: &Value,
    ) -> Result<(), CallError> {
        let api = api(client, namespace, self.kind);
        let name = self.object.metadata.name.clone().unwrap_or_default();
        let params =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..Default::default() };
        self.object = call(api.patch(&name, &params, &Patch::Merge(patch))).await?;
        self.observed = observe(self.kind, &self.object);
        Ok(())
    }
}

fn is_ours(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(FIELD_MANAGER)
}

fn api(client: &Client, namespace: &str, kind: AutoscalerKind) -> Api<Object<Spec, NotUsed>> {
    Api::namespaced_with(client.clone(), namespace, &kind.resource())
}

fn observe(kind: AutoscalerKind, object: &Object<Spec, NotUsed>) -> Observed {
    let [(_, minimum), (_, maximum)] = kind.fields();
    let given = object.spec.limits(kind);
    let [minimum, maximum] = [(given[0], minimum), (given[1], maximum)]
        .map(|(given, otherwise)| i32::try_from(given.unwrap_or(otherwise)).unwrap_or(i32::MAX));
    let record = object.metadata.annotations.as_ref().and_then(|it| it.get(ANNOTATION));
    let record = record.and_then(|text| match json::from_str::<Record>(text) {
        Ok(record) => Some(record),
        Err(error) => {
            let name = object.metadata.name.as_deref();
            tracing::warn!(name, %error, "the annotation {ANNOTATION} cannot be read: the current minimum counts as the original one");
            None
        }
    });
    Observed { minimum, maximum, record }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_checked_when_they_are_read() {
        for good in ["HorizontalPodAutoscaler/holdfast-api", "ScaledObject/a"] {
            assert_eq!(good.parse::<AutoscalerRef>().unwrap().to_string(), good);
        }
        for bad in ["", "holdfast-api", "Deployment/a", "ScaledObject/", "ScaledObject/A b"] {
            bad.parse::<AutoscalerRef>().unwrap_err();
        }
    }
}
