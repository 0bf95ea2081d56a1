//! Objects, and their creation on the API server.

use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind, TypeMeta},
};
use serde_json::{Value, json};

/// The API for an object's kind and namespace.
fn api(client: &Client, object: &Value) -> Api<DynamicObject> {
    let types: TypeMeta = serde_json::from_value(object.clone()).unwrap();
    let kind = ApiResource::from_gvk(&GroupVersionKind::try_from(&types).unwrap());
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind),
        None => Api::all_with(client.clone(), &kind),
    }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

pub async fn create(client: &Client, object: &Value) {
    let typed = serde_json::from_value(object.clone()).unwrap();
    api(client, object).create(&PostParams::default(), &typed).await.unwrap();
}

pub async fn merge(client: &Client, object: &Value, patch: &Value) {
    let patch = Patch::Merge(patch);
    api(client, object).patch(name(object), &PatchParams::default(), &patch).await.unwrap();
}

pub async fn get(client: &Client, object: &Value) -> Option<Value> {
    let found = api(client, object).get_opt(name(object)).await.unwrap()?;
    Some(serde_json::to_value(found).unwrap())
}

/// All objects of an object's kind and namespace.
pub async fn list(client: &Client, object: &Value) -> Vec<Value> {
    let found = api(client, object).list(&ListParams::default()).await.unwrap();
    found.into_iter().map(|object| serde_json::to_value(object).unwrap()).collect()
}

pub async fn delete(client: &Client, object: &Value) {
    api(client, object).delete(name(object), &DeleteParams::default()).await.unwrap();
}

/// A token of a service account.
pub async fn token(client: &Client, namespace: &str, account: &str) -> String {
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {},
    });
    let request = http::Request::post(path)
        .header("content-type", "application/json")
        .body(body.to_string().into_bytes())
        .unwrap();
    let answer: Value = client.request(request).await.unwrap();
    answer["status"]["token"].as_str().unwrap().to_owned()
}

pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

pub fn named(api_version: &str, kind: &str, namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
    })
}

pub fn secret(namespace: &str, name: &str) -> Value {
    named("v1", "Secret", namespace, name)
}

pub fn lease(namespace: &str, name: &str) -> Value {
    named("coordination.k8s.io/v1", "Lease", namespace, name)
}

/// There is no kube-proxy here, so the API server connects to the port on this host.
pub fn service(namespace: &str, name: &str, port: u16) -> Value {
    let mut service = named("v1", "Service", namespace, name);
    service["spec"] =
        json!({"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]});
    service
}

/// As in the chart, except for the port.
pub fn api_service(namespace: &str, service: &str, port: u16) -> Value {
    json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1beta1.external.metrics.k8s.io"},
        "spec": {
            "group": "external.metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"namespace": namespace, "name": service, "port": port},
        },
    })
}

pub fn deployment(namespace: &str) -> Value {
    let mut deployment = named("apps/v1", "Deployment", namespace, "worker");
    deployment["spec"] = json!({
        "selector": {"matchLabels": {"app": "worker"}},
        "template": {
            "metadata": {"labels": {"app": "worker"}},
            "spec": {"containers": [{"name": "worker", "image": "worker"}]},
        },
    });
    deployment
}

/// One worker for every two orders, up to ten, without the delays of the chart.
pub fn hpa(namespace: &str, release: &str) -> Value {
    let at_once = json!({
        "stabilizationWindowSeconds": 0,
        "policies": [{"type": "Pods", "value": 100, "periodSeconds": 1}],
    });
    let mut hpa = named("autoscaling/v2", "HorizontalPodAutoscaler", namespace, "worker");
    hpa["spec"] = json!({
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "worker"},
        "minReplicas": 1,
        "maxReplicas": 10,
        "behavior": {"scaleUp": at_once, "scaleDown": at_once},
        "metrics": [{"type": "External", "external": {
            "metric": {
                "name": "holdfast_queue_depth",
                "selector": {"matchLabels": {"queue": "orders", "release": release}},
            },
            "target": {"type": "AverageValue", "averageValue": "2"},
        }}],
    });
    hpa
}
