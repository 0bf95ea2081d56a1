//! The objects of the chart for sales: workloads and their autoscalers.

use serde_json::{Value, json};

use crate::objects;

pub fn deployment(namespace: &str, part: &str) -> Value {
    let mut deployment =
        objects::named("apps/v1", "Deployment", namespace, &format!("holdfast-{part}"));
    deployment["spec"] = json!({
        "selector": {"matchLabels": {"app": part}},
        "template": {
            "metadata": {"labels": {"app": part}},
            "spec": {"containers": [{"name": part, "image": part}]},
        },
    });
    deployment
}

/// It never gets a metric, so it keeps its minimum.
pub fn hpa(namespace: &str, part: &str) -> Value {
    let name = format!("holdfast-{part}");
    let mut hpa = objects::named("autoscaling/v2", "HorizontalPodAutoscaler", namespace, &name);
    hpa["spec"] = json!({
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": 1, "maxReplicas": 9,
        "metrics": [{"type": "External", "external": {
            "metric": {"name": "holdfast_queue_depth"},
            "target": {"type": "AverageValue", "averageValue": "2"},
        }}],
    });
    hpa
}

/// The part of KEDA's definition that a sale needs.
pub fn keda_definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "scaledobjects.keda.sh"},
        "spec": {
            "group": "keda.sh", "scope": "Namespaced",
            "names": {"plural": "scaledobjects", "singular": "scaledobject", "kind": "ScaledObject"},
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                }},
            }],
        },
    })
}

pub fn scaled_object(namespace: &str) -> Value {
    let mut object =
        objects::named("keda.sh/v1alpha1", "ScaledObject", namespace, "holdfast-worker");
    object["spec"] = json!({"scaleTargetRef": {"name": "holdfast-worker"}});
    object
}
