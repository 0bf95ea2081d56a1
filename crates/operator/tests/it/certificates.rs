//! The serving certificate and its CA.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use holdfast_operator::authority::{Parsed, parse_bundle};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    answers::publish,
    cluster::{API, Cluster, NAMESPACE, OperatorReplica, SECRET, SERVICE, install, until},
    hpa::Scaled,
    objects,
    wire::{Asker, decode, encode},
};

/// Tests that change the Secret run one after the other.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn secret(client: &kube::Client) -> Value {
    objects::get(client, &objects::secret(NAMESPACE, SECRET)).await.unwrap()
}

async fn ca_bundle(client: &kube::Client) -> String {
    let found = objects::get(client, &objects::api_service("", "", 0)).await.unwrap();
    decode(found["spec"]["caBundle"].as_str().unwrap())
}

/// The same CA, near its expiry.
fn aged(ca: &str, key: &str) -> String {
    let der = parse_bundle(ca.as_bytes()).unwrap().remove(0);
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    let name = parsed.subject().iter_common_name().next().unwrap().as_str().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = OffsetDateTime::now_utc() - Duration::from_hours(10);
    params.not_after = OffsetDateTime::now_utc() + Duration::from_hours(1);
    params.self_signed(&KeyPair::from_pem(key).unwrap()).unwrap().pem()
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn the_ca_is_renewed_under_a_running_hpa_without_a_failed_request() {
    let _turn = TURN.lock().await;
    let cluster = Cluster::shared().await;
    let client = cluster.client().await;
    let scaled = Scaled::new("rotation").await;
    crate::answers::ready(&scaled.queue).await;
    publish(&scaled.queue, 8).await;
    scaled.until_replicas(4).await;

    // A client sends requests continuously, through the API server and on a connection that stays open.
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let proxy = cluster.kubernetes.front_proxy().unwrap();
    let root = [("x-remote-user", "root"), ("x-remote-group", "system:masters")];
    let open = Asker::new(cluster, cluster.second.tls, Some(proxy), &root).await;
    let path = format!("{API}/namespaces/rotation/holdfast_queue_depth");
    let asking = {
        let (stop, asked, client, path) =
            (Arc::clone(&stop), Arc::clone(&asked), client.clone(), path.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                cluster.get(&client, &path).await.expect("a request failed");
                assert_eq!(open.get(&path).await.0, 200);
                asked.fetch_add(1, Ordering::SeqCst);
                // Continuously, but slowly enough for other tests.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    };

    let before = secret(&client).await;
    let (ca, key) = (
        decode(before["data"]["ca.crt"].as_str().unwrap()),
        decode(before["data"]["ca.key"].as_str().unwrap()),
    );
    let served = decode(before["data"]["tls.crt"].as_str().unwrap());
    let old = aged(&ca, &key);
    let change = json!({"data": {"ca.crt": encode(&old)}});
    objects::merge(&client, &objects::secret(NAMESPACE, SECRET), &change).await;

    until("there is a new CA beside the old one", async || {
        let bundle = ca_bundle(&client).await;
        bundle.ends_with(&old) && bundle.len() > old.len()
    })
    .await;
    let after = secret(&client).await;
    assert_eq!(after["data"]["ca.crt"].as_str().unwrap(), encode(&ca_bundle(&client).await));
    let renewed = decode(after["data"]["tls.crt"].as_str().unwrap());
    assert_ne!(renewed, served);
    // Trusting only the new CA: only replicas that have switched can be reached.
    let new = Parsed::first(&ca_bundle(&client).await).unwrap().pem();
    for replica in [&cluster.first, &cluster.second] {
        let host = format!("{SERVICE}.{NAMESPACE}.svc");
        until("the replica serves the new certificate", async || {
            let proxy = cluster.kubernetes.front_proxy().unwrap();
            let stranger = Asker::of(&new, &host, replica.tls, Some(proxy), &root);
            stranger.try_ask("GET", API).await.is_ok()
        })
        .await;
    }
    // The HPA continues.
    let seen = asked.load(Ordering::SeqCst);
    publish(&scaled.queue, 4).await;
    scaled.until_replicas(6).await;
    until("there are more requests", async || asked.load(Ordering::SeqCst) > seen + 20).await;
    stop.store(true, Ordering::SeqCst);
    asking.await.unwrap();
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn foreign_changes_are_repaired() {
    let _turn = TURN.lock().await;
    let cluster = Cluster::shared().await;
    let client = cluster.client().await;
    let before = secret(&client).await;
    // The Secret is deleted: its contents are written again, and no client is disconnected.
    objects::delete(&client, &objects::secret(NAMESPACE, SECRET)).await;
    until("the Secret is back", async || {
        let found = objects::get(&client, &objects::secret(NAMESPACE, SECRET)).await;
        found.is_some_and(|found| found["data"] == before["data"])
    })
    .await;
    // Its contents are invalid.
    let garbage = json!({"data": {"tls.key": encode("garbage")}});
    objects::merge(&client, &objects::secret(NAMESPACE, SECRET), &garbage).await;
    until("the Secret is right", async || secret(&client).await["data"] == before["data"]).await;
    // The registration trusts another CA.
    let bundle = ca_bundle(&client).await;
    let other = holdfast_sandbox::SandboxAuthority::new("other").unwrap().certificate();
    let patch = json!({"spec": {"caBundle": encode(&other)}});
    objects::merge(&client, &objects::api_service("", "", 0), &patch).await;
    until("the registration is right", async || ca_bundle(&client).await == bundle).await;
    until("the API is available again", async || cluster.get(&client, API).await.is_ok()).await;
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn our_objects_are_deleted_with_the_registration() {
    let cluster = Cluster::shared().await;
    let client = cluster.client().await;
    let registration = objects::get(&client, &objects::api_service("", "", 0)).await.unwrap();
    for object in
        [objects::secret(NAMESPACE, SECRET), objects::lease(NAMESPACE, crate::cluster::LEASE)]
    {
        until("it has an owner", async || {
            let found = objects::get(&client, &object).await.unwrap_or_default();
            let owner = &found["metadata"]["ownerReferences"][0];
            owner["kind"] == "APIService" && owner["uid"] == registration["metadata"]["uid"]
        })
        .await;
    }
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn a_given_certificate_is_served_and_its_successor_too() {
    let cluster = Cluster::shared().await;
    let client = cluster.client().await;
    let kubeconfig = install(&cluster.kubernetes, &client, "given").await;
    let folder = tempfile::tempdir().unwrap();
    let host = "holdfast-operator.given.svc";
    let write = |authority: &holdfast_sandbox::SandboxAuthority| {
        let pair = authority.server(&[host]).unwrap();
        std::fs::write(folder.path().join("tls.crt"), pair.certificate).unwrap();
        std::fs::write(folder.path().join("tls.key"), pair.key).unwrap();
    };
    let (first, second) = (
        holdfast_sandbox::SandboxAuthority::new("first").unwrap(),
        holdfast_sandbox::SandboxAuthority::new("second").unwrap(),
    );
    write(&first);
    let folder_path = folder.path().to_str().unwrap();
    let settings =
        [("HOLDFAST_OPERATOR_TLS_DIR", folder_path), ("REDIS_URL", "redis://127.0.0.1:1")];
    let replica = OperatorReplica::start(&kubeconfig, "given", &settings).await;
    let root = [("x-remote-user", "root"), ("x-remote-group", "system:masters")];
    let serves = async |authority: &holdfast_sandbox::SandboxAuthority| {
        let proxy = cluster.kubernetes.front_proxy().unwrap();
        let asker = Asker::of(&authority.certificate(), host, replica.tls, Some(proxy), &root);
        asker.try_ask("GET", API).await.is_ok()
    };
    assert!(serves(&first).await);
    write(&second);
    until("the successor is served", async || serves(&second).await).await;
    assert_eq!(objects::get(&client, &objects::secret("given", SECRET)).await, None);
}
