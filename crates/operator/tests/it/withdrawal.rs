//! An operator whose Deployment is scaled to 0 must not block the rest of the cluster: it removes its registration, and
//! creates it again when it is back.

use std::time::Duration;

use holdfast_sandbox::{Kubernetes, KubernetesAssets, PATIENCE};
use serde_json::{Value, json};

use crate::{
    cluster::{OperatorReplica, SERVICE, install, until},
    objects,
};

const NAMESPACE: &str = "shop";

struct OperatorDeployment {
    kubernetes: Kubernetes,
    client: kube::Client,
    kubeconfig: std::path::PathBuf,
    deployment: Value,
}

impl OperatorDeployment {
    async fn new() -> Self {
        let kubernetes = Kubernetes::start(&KubernetesAssets::find().unwrap()).await.unwrap();
        let client = kubernetes.client().await.unwrap();
        let kubeconfig = install(&kubernetes, &client, NAMESPACE).await;
        objects::create(&client, &objects::api_service(NAMESPACE, SERVICE, 443)).await;
        let mut deployment = objects::deployment(NAMESPACE);
        deployment["metadata"]["name"] = json!(SERVICE);
        deployment["spec"]["replicas"] = json!(1);
        deployment["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "Helm"});
        deployment["metadata"]["annotations"] =
            json!({"meta.helm.sh/release-name": "shop", "deployment.kubernetes.io/other": "no"});
        objects::create(&client, &deployment).await;
        Self { kubernetes, client, kubeconfig, deployment }
    }

    async fn operator(&self) -> OperatorReplica {
        let settings =
            [("REDIS_URL", "redis://127.0.0.1:1"), ("HOLDFAST_OPERATOR_DEPLOYMENT", SERVICE)];
        OperatorReplica::start(&self.kubeconfig, NAMESPACE, &settings).await
    }

    async fn scale(&self, replicas: u32) {
        let change = json!({"spec": {"replicas": replicas}});
        objects::merge(&self.client, &self.deployment, &change).await;
    }

    async fn stop(&self, operator: OperatorReplica) {
        let ended = operator.process.stop(PATIENCE).await.unwrap();
        assert!(ended.success(), "{}", operator.process.log_tail(20));
    }

    async fn registration(&self) -> Option<Value> {
        objects::get(&self.client, &objects::api_service("", "", 0)).await
    }

    async fn is_trusted(&self) -> bool {
        self.registration().await.is_some_and(|it| it["spec"]["caBundle"].is_string())
    }
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn an_operator_that_is_scaled_to_0_blocks_no_namespace_and_registers_again() {
    let scaled = OperatorDeployment::new().await;
    let operator = scaled.operator().await;
    until("the API server trusts it", async || scaled.is_trusted().await).await;
    let before = scaled.registration().await.unwrap();

    // Replaced by another replica: the registration stays.
    scaled.stop(operator).await;
    assert_eq!(scaled.registration().await.unwrap()["metadata"]["uid"], before["metadata"]["uid"]);

    let operator = scaled.operator().await;
    scaled.scale(0).await;
    scaled.stop(operator).await;
    assert_eq!(scaled.registration().await, None);
    let namespace = objects::namespace("short-lived");
    objects::create(&scaled.client, &namespace).await;
    objects::delete(&scaled.client, &namespace).await;
    until("the namespace is gone", async || {
        objects::get(&scaled.client, &namespace).await.is_none()
    })
    .await;

    scaled.scale(1).await;
    let operator = scaled.operator().await;
    until("it is registered again", async || scaled.is_trusted().await).await;
    let mut spec = scaled.registration().await.unwrap()["spec"].clone();
    spec["caBundle"] = before["spec"]["caBundle"].clone();
    assert_eq!(spec, before["spec"]);

    // Otherwise, `helm uninstall` would leave it.
    let metadata = scaled.registration().await.unwrap()["metadata"].clone();
    assert_eq!(metadata["labels"], json!({"app.kubernetes.io/managed-by": "Helm"}));
    assert_eq!(metadata["annotations"], json!({"meta.helm.sh/release-name": "shop"}));

    // Like an uninstall, which removes the registration before the operator.
    objects::delete(&scaled.client, &objects::api_service("", "", 0)).await;
    // The absence of a registration in several rounds is the subject.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(scaled.registration().await, None);

    // Another program's registration is not touched.
    objects::create(&scaled.client, &objects::api_service("keda", "keda", 443)).await;
    scaled.scale(0).await;
    scaled.stop(operator).await;
    assert!(scaled.registration().await.is_some());

    // The rights of the chart were sufficient, and all of them were needed.
    let user = format!("system:serviceaccount:{NAMESPACE}:{SERVICE}");
    let mut verbs = std::collections::BTreeSet::new();
    for line in scaled.kubernetes.audit_log().unwrap().lines() {
        let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
        if event["user"]["username"] == user.as_str() {
            assert_ne!(event["responseStatus"]["code"], 403, "{event}");
            let object = &event["objectRef"];
            verbs.insert(format!("{} {}", event["verb"], object["resource"]));
        }
    }
    for verb in ["\"delete\" \"apiservices\"", "\"get\" \"deployments\""] {
        assert!(verbs.contains(verb), "{verbs:?}");
    }
}
