//! The answers that the API server passes on to clients.

use holdfast_queue::{Job, Queue, QueueError, QueueSettings};
use serde_json::{Value, json};

use crate::{
    cluster::{API, Cluster, redis, until},
    objects,
};

pub fn queue(url: &str) -> Queue {
    Queue::connect(QueueSettings::new(url)).unwrap()
}

/// Prepares a queue like a worker does: with its group and all orders.
pub async fn try_ready(queue: &Queue) -> Result<(), QueueError> {
    queue.ensure_group().await?;
    queue.loss(Some(1)).await?;
    queue.refilled(1).await
}

pub async fn ready(queue: &Queue) {
    try_ready(queue).await.unwrap();
}

pub async fn publish(queue: &Queue, orders: i64) {
    let jobs: Vec<_> = (1..=orders).map(|order_id| Job { order_id, trace_context: None }).collect();
    queue.publish_many(&jobs).await.unwrap();
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn the_api_is_registered_and_found_by_discovery() {
    let cluster = Cluster::shared().await;
    let client = cluster.client().await;
    let api_service = objects::api_service("", "", 0);
    until("the APIService is available", async || {
        let found = objects::get(&client, &api_service).await.unwrap();
        let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions
            .iter()
            .any(|condition| condition["type"] == "Available" && condition["status"] == "True")
    })
    .await;
    let group = cluster.get(&client, "/apis/external.metrics.k8s.io").await.unwrap();
    assert_eq!(group["preferredVersion"]["groupVersion"], "external.metrics.k8s.io/v1beta1");
    let version = cluster.get(&client, API).await.unwrap();
    let names: Vec<_> = version["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|resource| resource["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["holdfast_queue_depth", "holdfast_queue_oldest_age_seconds"]);
    // Discovery for kubectl, in the older and the current format.
    until("the group is among all groups", async || {
        let groups = client.list_api_groups().await.unwrap();
        groups.groups.iter().any(|group| group.name == "external.metrics.k8s.io")
    })
    .await;
}

fn values(list: &Value) -> Vec<(String, String)> {
    let items = list["items"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    items
        .iter()
        .map(|item| (text(&item["metricLabels"]["release"]), text(&item["value"])))
        .collect()
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn values_are_those_of_the_selected_queues() {
    let cluster = Cluster::shared().await;
    let client = cluster.client().await;
    let (full, empty) = (redis().await, redis().await);
    cluster.list("values", "full", &full.url()).await;
    cluster.list("values", "empty", &empty.url()).await;
    for redis in [&full, &empty] {
        ready(&queue(&redis.url())).await;
    }
    publish(&queue(&full.url()), 7).await;
    let depth = format!("{API}/namespaces/values/holdfast_queue_depth");
    let of = |release: &str, value: &str| (release.to_owned(), value.to_owned());
    for (selector, expected) in [
        ("", vec![of("full", "7"), of("empty", "0")]),
        ("release%3Dfull", vec![of("full", "7")]),
        ("queue=orders,release=empty", vec![of("empty", "0")]),
        ("release%20in%20(full,other)", vec![of("full", "7")]),
        ("release+notin+(full)", vec![of("empty", "0")]),
        ("release!%3Dfull,queue", vec![of("empty", "0")]),
    ] {
        let list =
            cluster.get(&client, &format!("{depth}?labelSelector={selector}")).await.unwrap();
        assert_eq!(values(&list), expected, "{selector}");
        assert_eq!(list["kind"], "ExternalMetricValueList");
        assert_eq!(list["apiVersion"], "external.metrics.k8s.io/v1beta1");
        assert_eq!(list["items"][0]["metricName"], "holdfast_queue_depth");
        assert_eq!(list["items"][0]["metricLabels"]["queue"], "orders");
    }
    // The age of a waiting order increases.
    let age = format!("{API}/namespaces/values/holdfast_queue_oldest_age_seconds");
    until("the oldest order is a second old", async || {
        let list = cluster.get(&client, &age).await.unwrap();
        let values = values(&list);
        assert_eq!(values[1].1, "0", "none waits");
        let age = values[0].1.strip_suffix('m').unwrap_or("0").parse::<u64>().unwrap();
        (1000..60_000).contains(&age)
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn requests_without_an_answer_are_refused_with_a_status_object() {
    let cluster = Cluster::shared().await;
    let client = cluster.client().await;
    let redis = redis().await;
    ready(&queue(&redis.url())).await;
    cluster.list("refused", "shop", &redis.url()).await;
    let of = |rest: &str| format!("{API}/namespaces/refused/{rest}");
    for (path, code, reason, words) in [
        (
            of("holdfast_queue_depth?labelSelector=release%3D%3D%3Dx"),
            400,
            "BadRequest",
            "labelSelector has",
        ),
        (
            of("holdfast_queue_depth?labelSelector=release+in+x"),
            400,
            "BadRequest",
            "an opening bracket",
        ),
        (
            of("holdfast_queue_depth?labelSelector=release%3Dother"),
            404,
            "NotFound",
            "no queue of namespace",
        ),
        (of("queue_depth"), 404, "NotFound", "there is no metric"),
        (of("holdfast_queue_depth?watch=true"), 405, "MethodNotAllowed", "only be read"),
        (
            format!("{API}/namespaces/elsewhere/holdfast_queue_depth"),
            404,
            "NotFound",
            "\"elsewhere\"",
        ),
    ] {
        let Err(kube::Error::Api(status)) = cluster.get(&client, &path).await else {
            panic!("{path} was answered");
        };
        assert_eq!((status.code, status.reason.as_str()), (code, reason), "{path}: {status:?}");
        assert!(status.message.contains(words), "{path}: {}", status.message);
    }
    let list = cluster.get(&client, &of("holdfast_queue_depth")).await.unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{}", json!(list));
}
