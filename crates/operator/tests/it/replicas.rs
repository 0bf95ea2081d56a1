//! Two replicas of an operator that the registration does not point to.

use serde_json::Value;

use crate::{
    cluster::{API, Cluster, LEASE, OperatorReplica, SECRET, install, until},
    objects,
    wire::{Asker, decode},
};

async fn holder(client: &kube::Client) -> String {
    let lease = objects::get(client, &objects::lease("replicas", LEASE)).await;
    let holder = lease.unwrap_or_default()["spec"]["holderIdentity"].clone();
    holder.as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn one_replica_writes_and_each_serves_and_foreign_registrations_are_kept() {
    let cluster = Cluster::shared().await;
    let client = cluster.client().await;
    let kubeconfig = install(&cluster.kubernetes, &client, "replicas").await;
    let start = async |name: &'static str| {
        let settings = [("REDIS_URL", "redis://127.0.0.1:1"), ("HOLDFAST_OPERATOR_POD", name)];
        OperatorReplica::start(&kubeconfig, "replicas", &settings).await
    };
    let (one, two) = tokio::join!(start("one"), start("two"));
    until("another session writes", async || !holder(&client).await.is_empty()).await;
    let first = holder(&client).await;
    let (leader, follower) = if first.starts_with("one_") { (one, two) } else { (two, one) };
    until("it knows", async || leader.metric("holdfast_operator_leader").await > 0.9).await;
    assert!(follower.metric("holdfast_operator_leader").await < 0.1);
    let secret = objects::get(&client, &objects::secret("replicas", SECRET)).await.unwrap();
    let ca = decode(secret["data"]["ca.crt"].as_str().unwrap());
    let root = [("x-remote-user", "root"), ("x-remote-group", "system:masters")];
    let serves = async |replica: &OperatorReplica| {
        let proxy = cluster.kubernetes.front_proxy().unwrap();
        let host = "holdfast-operator.replicas.svc";
        let asker = Asker::of(&ca, host, replica.tls, Some(proxy), &root);
        assert_eq!(asker.get(API).await.0, 200);
    };
    serves(&leader).await;
    serves(&follower).await;

    // It is killed: the other one waits until the Lease expires, and serves in the meantime.
    leader.process.kill9().await.unwrap();
    serves(&follower).await;
    until("the other writes", async || {
        let now = holder(&client).await;
        !now.is_empty() && now != first
    })
    .await;
    until("it knows", async || follower.metric("holdfast_operator_leader").await > 0.9).await;
    serves(&follower).await;
    // It shuts down gracefully and releases the Lease immediately.
    let ended = follower.process.stop(holdfast_sandbox::PATIENCE).await.unwrap();
    assert!(ended.success(), "{}", follower.process.log_tail(20));
    assert_eq!(holder(&client).await, "");

    let registration: Value =
        objects::get(&client, &objects::api_service("", "", 0)).await.unwrap();
    assert_eq!(registration["spec"]["service"]["namespace"], "holdfast");
    assert_ne!(decode(registration["spec"]["caBundle"].as_str().unwrap()), ca);
}
