//! Pods, which the test makes ready, because there is no kubelet.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;

use super::{fixture::SaleFixture, templates::deployment};
use crate::{cluster::until, objects};

impl SaleFixture {
    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    /// Reports the pods of the HPA as ready, like the kubelet, until their Deployment has this many ready replicas.
    pub async fn pods_are_ready(&self, part: &str, count: u64) {
        self.say_of_pods(part, "True").await;
        until("the pods are ready", async || {
            self.say_of_pods(part, "True").await;
            self.ready(part).await == count
        })
        .await;
    }

    pub async fn lose_pods(&self, part: &str) {
        until("the pods are lost", async || {
            self.say_of_pods(part, "False").await;
            self.ready(part).await == 0
        })
        .await;
    }

    async fn ready(&self, part: &str) -> u64 {
        let found = objects::get(&self.client, &deployment(self.namespace, part)).await.unwrap();
        found["status"]["readyReplicas"].as_u64().unwrap_or_default()
    }

    async fn say_of_pods(&self, part: &str, ready: &str) {
        let of_part = ListParams::default().labels(&format!("app={part}"));
        let now = Timestamp::now().to_string();
        for pod in self.pods().list(&of_part).await.unwrap() {
            let status = json!({"status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": ready, "lastTransitionTime": now},
            ]}});
            let name = pod.metadata.name.unwrap();
            // It may have been deleted.
            let _ = self
                .pods()
                .patch_status(&name, &PatchParams::default(), &Patch::Merge(&status))
                .await;
        }
    }
}
