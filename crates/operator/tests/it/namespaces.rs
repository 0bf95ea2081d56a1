//! The operator must not block the rest of the cluster: while discovery of its group fails, no namespace is deleted.

use kube::Client;
use serde_json::{Value, json};

use crate::{
    cluster::{API, Cluster, until},
    objects,
    wire::Asker,
};

const GROUP: &str = "external.metrics.k8s.io";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The version of the operator's group in the aggregated discovery of the API server.
async fn discovered(client: &Client) -> Option<Value> {
    let request = http::Request::get("/apis").header("accept", AGGREGATED);
    let groups: Value = client.request(request.body(Vec::new()).unwrap()).await.unwrap();
    assert_eq!(groups["kind"], "APIGroupDiscoveryList");
    let groups = groups["items"].as_array().unwrap();
    let ours = groups.iter().find(|group| group["metadata"]["name"] == GROUP)?;
    Some(ours["versions"][0].clone())
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn aggregated_discovery_of_the_group_is_current() {
    let cluster = Cluster::shared().await;
    let client = cluster.client().await;
    until("discovery is current", async || {
        discovered(&client).await.is_some_and(|version| version["freshness"] == "Current")
    })
    .await;
    let version = discovered(&client).await.unwrap();
    let names: Vec<_> =
        version["resources"].as_array().unwrap().iter().map(|it| it["resource"].clone()).collect();
    assert_eq!(names, ["holdfast_queue_depth", "holdfast_queue_oldest_age_seconds"]);
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn a_namespace_can_be_deleted_while_the_operator_is_registered() {
    let cluster = Cluster::shared().await;
    let client = cluster.client().await;
    until("the API is registered", async || discovered(&client).await.is_some()).await;
    let namespace = objects::namespace("short-lived");
    objects::create(&client, &namespace).await;
    let mut config_map = objects::named("v1", "ConfigMap", "short-lived", "content");
    config_map["data"] = json!({"a": "b"});
    objects::create(&client, &config_map).await;
    objects::delete(&client, &namespace).await;
    until("the namespace is gone", async || objects::get(&client, &namespace).await.is_none())
        .await;
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn discovery_is_only_for_authenticated_callers() {
    let cluster = Cluster::shared().await;
    let group = format!("/apis/{GROUP}");
    let proxy = || cluster.kubernetes.front_proxy().unwrap();
    let unauthenticated = ("x-remote-group", "system:unauthenticated");
    for (who, headers, code) in [
        ("the aggregator", &[("x-remote-user", "system:kube-aggregator")][..], 200),
        ("anybody with a name", &[("x-remote-user", "jane"), ("x-remote-group", "a")], 200),
        ("nobody", &[("x-remote-user", "system:anonymous"), unauthenticated], 403),
        ("nobody, without a group", &[("x-remote-user", "system:anonymous")], 403),
        ("one who is said not to be", &[("x-remote-user", "jane"), unauthenticated], 403),
    ] {
        let asker = Asker::new(cluster, cluster.second.tls, Some(proxy()), headers).await;
        for path in ["/apis", &group, API] {
            let (status, body) = asker.get(path).await;
            assert_eq!(status, code, "{who}, {path}: {body}");
        }
    }
    let refused = "holdfast_external_metrics_requests_total{code=\"403\",metric=\"discovery\"}";
    assert!(cluster.second.metric(refused).await >= 9.0, "each refusal is counted");
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn all_groups_are_listed_in_the_requested_form() {
    let cluster = Cluster::shared().await;
    for (accept, kind, version) in [
        (AGGREGATED, "APIGroupDiscoveryList", "apidiscovery.k8s.io/v2"),
        ("application/json", "APIGroupList", "v1"),
    ] {
        let headers = [("x-remote-user", "jane"), ("accept", accept)];
        let proxy = cluster.kubernetes.front_proxy().unwrap();
        let asker = Asker::new(cluster, cluster.second.tls, Some(proxy), &headers).await;
        let (status, body) = asker.get("/apis").await;
        assert_eq!(status, 200, "{body}");
        assert_eq!((&body["kind"], &body["apiVersion"]), (&json!(kind), &json!(version)));
    }
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn a_permission_of_all_authenticated_callers_applies_without_groups() {
    let cluster = Cluster::shared().await;
    let client = cluster.client().await;
    cluster.namespace(&client, "everybody").await;
    let rbac = "rbac.authorization.k8s.io/v1";
    let mut role = objects::named(rbac, "Role", "everybody", "reader");
    role["rules"] = json!([{"apiGroups": [GROUP], "resources": ["*"], "verbs": ["list"]}]);
    objects::create(&client, &role).await;
    let mut binding = objects::named(rbac, "RoleBinding", "everybody", "reader");
    binding["roleRef"] =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"});
    binding["subjects"] = json!([{
        "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated",
    }]);
    objects::create(&client, &binding).await;
    let headers = [("x-remote-user", "jane")];
    let proxy = cluster.kubernetes.front_proxy().unwrap();
    let asker = Asker::new(cluster, cluster.second.tls, Some(proxy), &headers).await;
    let path = format!("{API}/namespaces/everybody/holdfast_queue_depth");
    // No queue is listed there, so callers with the permission get 404.
    until("the permission is granted", async || asker.get(&path).await.0 == 404).await;
}
