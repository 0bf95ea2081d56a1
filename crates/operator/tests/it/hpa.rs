//! A real HPA.

use std::time::{Duration, Instant};

use holdfast_queue::{Consumer, Queue};
use holdfast_sandbox::Redis;
use kube::Client;
use serde_json::Value;

use crate::{
    answers::{publish, queue},
    cluster::{Cluster, redis, until},
    objects,
};

/// A Deployment with its HPA, and the queue that it uses.
pub struct Scaled {
    pub namespace: &'static str,
    pub client: Client,
    pub redis: Redis,
    pub queue: Queue,
}

impl Scaled {
    pub async fn new(namespace: &'static str) -> Self {
        let cluster = Cluster::shared().await;
        let client = cluster.client().await;
        let redis = redis().await;
        let queue = queue(&redis.url());
        cluster.namespace(&client, namespace).await;
        cluster.list(namespace, "shop", &redis.url()).await;
        objects::create(&client, &objects::deployment(namespace)).await;
        objects::create(&client, &objects::hpa(namespace, "shop")).await;
        Self { namespace, client, redis, queue }
    }

    pub async fn replicas(&self) -> u64 {
        let found = objects::get(&self.client, &objects::deployment(self.namespace)).await;
        found.unwrap()["spec"]["replicas"].as_u64().unwrap()
    }

    pub async fn until_replicas(&self, replicas: u64) {
        let what = format!("{} has {replicas} workers", self.namespace);
        until(&what, async || self.replicas().await == replicas).await;
    }

    /// The HPA's condition `ScalingActive`.
    pub async fn scaling_active(&self) -> Value {
        let found =
            objects::get(&self.client, &objects::hpa(self.namespace, "shop")).await.unwrap();
        let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions
            .into_iter()
            .find(|condition| condition["type"] == "ScalingActive")
            .unwrap_or_default()
    }

    /// Waits until the HPA reports that it has no metric, with these words, and checks that it then changes nothing for
    /// some of its rounds.
    pub async fn holds_because(&self, words: &str, replicas: u64) {
        let what = format!("the HPA of {} says {words:?}", self.namespace);
        until(&what, async || {
            let condition = self.scaling_active().await;
            condition["status"] == "False"
                && condition["reason"] == "FailedGetExternalMetric"
                && condition["message"].as_str().unwrap().contains(words)
        })
        .await;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            assert_eq!(
                self.replicas().await,
                replicas,
                "{}: the HPA changed the replicas",
                self.namespace
            );
            // The absence of a change is the subject, so time must pass.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Completes this many waiting orders.
    pub async fn work(&self, orders: usize) {
        let mut consumer = Consumer::new(self.queue.clone(), "worker");
        let mut left = orders;
        while left > 0 {
            let deliveries = consumer.next(left).await.unwrap();
            self.queue.ack_many(&deliveries).await.unwrap();
            left -= deliveries.len();
        }
    }
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn the_hpa_follows_the_queue_up_and_down() {
    let scaled = Scaled::new("hpa").await;
    crate::answers::ready(&scaled.queue).await;
    publish(&scaled.queue, 12).await;
    scaled.until_replicas(6).await;
    scaled.work(7).await;
    scaled.until_replicas(3).await;
    scaled.work(5).await;
    scaled.until_replicas(1).await;
    assert_eq!(scaled.scaling_active().await["status"], "True", "an empty queue is known");
}
