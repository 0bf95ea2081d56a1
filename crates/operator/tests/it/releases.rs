//! Several releases of the chart in one cluster, installed and uninstalled by Helm on a separate control plane: a
//! cluster has one external metrics API and one definition of `FlashSale`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use holdfast_operator::sale::resource::REVISION_ANNOTATION;
use holdfast_sandbox::{Kubernetes, KubernetesAssets, until};
use kube::Client;
use serde_json::{Value, json};

use crate::{
    cluster::OperatorReplica,
    objects,
    sale_resource::{columns, installed, make_another, make_older},
};

/// The chart's operator is deployed, but another one serves the metrics.
const NOT_SERVING: &[&str] = &["--set=operator.deploy=false", "--set=operator.forSales=true"];

struct Releases {
    kubernetes: Kubernetes,
    helm: PathBuf,
    client: Client,
}

impl Releases {
    async fn new() -> Self {
        let kubernetes = Kubernetes::start(&KubernetesAssets::find().unwrap()).await.unwrap();
        let own = std::env::current_exe().unwrap();
        // …/target/debug/deps/test
        let mut folders = own.ancestors().skip(1).take(4);
        let helm = folders
            .find_map(|at| Some(at.join("tools/chart/helm")).filter(|helm| helm.is_file()))
            .expect("helm is missing; type: scripts/chart-tools");
        let client = kubernetes.client().await.unwrap();
        Self { kubernetes, helm, client }
    }

    /// Runs helm with its own home folder.
    fn helm(&self, arguments: &[&str]) -> Output {
        Command::new(&self.helm)
            .args(arguments)
            .env("KUBECONFIG", self.kubernetes.admin())
            .env("HOME", self.kubernetes.folder())
            .output()
            .unwrap()
    }

    fn done(&self, arguments: &[&str]) {
        let output = self.helm(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "helm {arguments:?}: {error}");
    }

    fn release(&self, command: &str, name: &str, chart: &Path, set: &[&str]) -> Output {
        let namespace = format!("--namespace={name}");
        let mut arguments = vec![command, name, chart.to_str().unwrap(), &namespace];
        if command == "install" {
            arguments.push("--create-namespace");
        }
        arguments.extend(set);
        self.helm(&arguments)
    }

    fn installs(&self, name: &str, set: &[&str]) {
        let output = self.release("install", name, &chart(), set);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "helm install {name} {set:?}: {error}");
    }

    fn upgrades(&self, name: &str, set: &[&str]) {
        let output = self.release("upgrade", name, &chart(), set);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "helm upgrade {name} {set:?}: {error}");
    }

    /// The reason why it cannot be installed.
    fn refuses(&self, name: &str, set: &[&str]) -> String {
        let output = self.release("install", name, &chart(), set);
        assert!(!output.status.success(), "helm install {name} {set:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn uninstalls(&self, name: &str) {
        self.done(&["uninstall", name, &format!("--namespace={name}")]);
    }

    /// The namespace of the operator that serves the external metrics API.
    async fn serves(&self) -> Option<String> {
        let found = objects::get(&self.client, &objects::api_service("", "", 0)).await?;
        Some(found["spec"]["service"]["namespace"].as_str().unwrap().to_owned())
    }

    /// What must survive an upgrade: the workloads and addresses themselves, and the values of the secrets.
    async fn identities(&self, namespace: &str) -> BTreeMap<String, Value> {
        let mut identities = BTreeMap::new();
        for (api_version, kind) in [
            ("apps/v1", "Deployment"),
            ("apps/v1", "StatefulSet"),
            ("v1", "Service"),
            ("v1", "Secret"),
        ] {
            let any = objects::named(api_version, kind, namespace, "any");
            for object in objects::list(&self.client, &any).await {
                let name = object["metadata"]["name"].as_str().unwrap();
                if name.starts_with("sh.helm.release.") {
                    continue;
                }
                let identity = json!([object["metadata"]["uid"], object["data"]]);
                identities.insert(format!("{kind} {name}"), identity);
            }
        }
        identities
    }

    /// Two replicas of a release's operator, with the permissions that the chart grants.
    async fn operators(&self, name: &str) -> [OperatorReplica; 2] {
        let account = format!("{name}-holdfast-operator");
        let token = objects::token(&self.client, name, &account).await;
        let path = self.kubernetes.folder().join(format!("{name}.conf"));
        std::fs::write(&path, self.kubernetes.kubeconfig(&token)).unwrap();
        let secret = format!("{account}-tls");
        let settings = [
            ("REDIS_URL", "redis://127.0.0.1:1/0"),
            ("HOLDFAST_OPERATOR_SERVICE", account.as_str()),
            ("HOLDFAST_OPERATOR_LEASE", account.as_str()),
            ("HOLDFAST_OPERATOR_TLS_SECRET", secret.as_str()),
        ];
        let start = || OperatorReplica::start(&path, name, &settings);
        tokio::join!(start(), start()).into()
    }
}

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/holdfast")
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn releases_can_be_installed_and_removed_in_any_order() {
    let releases = Releases::new().await;
    releases.installs("one", &[]);
    let definition = installed(&releases.client).await;
    let owner = &definition["metadata"]["annotations"]["meta.helm.sh/release-name"];
    assert_eq!(owner, &Value::Null, "no release owns the definition");
    assert_eq!(releases.serves().await.as_deref(), Some("one"));

    // A cluster has one external metrics API.
    let refusal = releases.refuses("two", &[]);
    assert!(refusal.contains("belongs to service one/one-holdfast-operator"), "{refusal}");
    assert!(refusal.contains("set operator.deploy=false here"), "{refusal}");
    releases.installs("two", NOT_SERVING);
    let mut sale = objects::named("sales.holdfast.dev/v1alpha1", "FlashSale", "two", "friday");
    sale["spec"] = json!({
        "products": [1],
        "startsAt": "2036-11-27T10:00:00Z",
        "endsAt": "2036-11-27T11:00:00Z",
        "workers": {"minReplicas": 6},
    });
    objects::create(&releases.client, &sale).await;

    // The first release is removed first. What the other one needs stays, and it takes over.
    releases.uninstalls("one");
    assert_eq!(releases.serves().await, None, "a registration without a service blocks namespaces");
    assert!(objects::get(&releases.client, &sale).await.is_some(), "its sales stay");
    releases.upgrades("two", &["--set=operator.deploy=true"]);
    assert_eq!(releases.serves().await.as_deref(), Some("two"));

    // It is installed again with the same name, and the last release is removed first.
    releases.installs("one", NOT_SERVING);
    releases.uninstalls("one");
    assert_eq!(releases.serves().await.as_deref(), Some("two"));
    releases.uninstalls("two");
    assert_eq!(installed(&releases.client).await["spec"], definition["spec"]);
    releases.installs("three", &[]);
    assert_eq!(releases.serves().await.as_deref(), Some("three"));
}

/// Earlier charts had the definition among their templates, so it belonged to the first release.
#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn a_definition_of_an_older_release_stays_and_blocks_no_release() {
    let releases = Releases::new().await;
    let before = tempfile::tempdir().unwrap();
    let templates = before.path().join("templates");
    std::fs::create_dir(&templates).unwrap();
    let metadata = "apiVersion: v2\nname: holdfast\nversion: 0.0.9\n";
    std::fs::write(before.path().join("Chart.yaml"), metadata).unwrap();
    let definition = std::fs::read_to_string(chart().join("crds/flashsales.yaml")).unwrap();
    let kept = definition
        .replace("  annotations:\n", "  annotations:\n    helm.sh/resource-policy: keep\n");
    assert_ne!(kept, definition);
    std::fs::write(templates.join("custom-resources.yaml"), kept).unwrap();
    for name in ["one", "gone"] {
        let output = releases.release("install", name, before.path(), &[]);
        // The error of earlier charts.
        assert_eq!(output.status.success(), name == "one");
    }
    releases.upgrades("one", &[]);
    let found = installed(&releases.client).await;
    assert_eq!(found["metadata"]["annotations"]["meta.helm.sh/release-name"], "one", "as it was");
    releases.installs("two", NOT_SERVING);
    releases.uninstalls("one");
    releases.installs("three", &[]);
    assert_eq!(installed(&releases.client).await["metadata"]["uid"], found["metadata"]["uid"]);
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn the_newest_operator_upgrades_the_definition_once() {
    let releases = Releases::new().await;
    let client = &releases.client;
    releases.installs("one", &[]);
    releases.installs("two", NOT_SERVING);
    let own = installed(client).await;
    make_older(client).await;
    let older = installed(client).await;
    assert_eq!(columns(&older), columns(&own) - 1, "the setup has the wrong revision");

    let operators = (releases.operators("one").await, releases.operators("two").await);
    until("it is upgraded", async || columns(&installed(client).await) == columns(&own)).await;
    let upgraded = installed(client).await;
    assert_eq!(upgraded["spec"], own["spec"]);
    let revision = |of: &Value| of["metadata"]["annotations"][REVISION_ANNOTATION].clone();
    assert_eq!(revision(&upgraded), revision(&own));
    let generation = |of: &Value| of["metadata"]["generation"].as_i64().unwrap();
    assert_eq!(generation(&upgraded), generation(&older) + 1, "by one of four replicas, and once");

    // A newer operator of another release has changed it.
    make_another(client, &json!("4000000000")).await;
    let newer = installed(client).await;
    // The absence of a change in several rounds of an operator is the subject.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(installed(client).await["spec"], newer["spec"]);
    drop(operators);
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn a_cluster_without_a_required_kind_is_refused_with_a_reason() {
    let releases = Releases::new().await;
    for (set, kind) in [
        ("--set=autoscaling.provider=keda", "keda.sh/v1alpha1/ScaledObject"),
        ("--set=metrics.podMonitor.enabled=true", "monitoring.coreos.com/v1/PodMonitor"),
    ] {
        let refusal = releases.refuses("shop", &[set]);
        assert!(refusal.contains(&format!("needs the kind {kind}")), "{refusal}");
    }
}

/// Kubernetes refuses changes of some fields, such as the selector of a Deployment. `earlier.tgz` is the chart as of 24
/// November 2026, packed by `helm package`.
#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn a_release_of_an_earlier_chart_is_upgraded_and_rolled_back_with_its_data() {
    let releases = Releases::new().await;
    let earlier = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/releases/earlier.tgz");
    let trial: &[&str] = &["--set=operator.deploy=false", "--set=metrics.podAnnotations=true"];
    let exposed: &[&str] = &[
        "--set=ingress.enabled=true,ingress.hosts={shop.example.com},priorityClass.create=true",
        "--set=autoscaling.worker.minReplicas=2,autoscaling.api.minReplicas=3",
        "--set=worker.fulfilment=webhook,worker.webhook.url=https://erp.example.com/orders",
        "--set=worker.webhook.existingSecret.name=erp,worker.webhook.existingSecret.key=key",
        "--set=worker.settings.HOLDFAST_WORKER_CONCURRENCY=256",
    ];
    for (name, set) in [("trial", trial), ("exposed", exposed)] {
        let output = releases.release("install", name, &earlier, set);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let before = releases.identities(name).await;
        releases.upgrades(name, set);
        let after = releases.identities(name).await;
        for (object, identity) in &before {
            assert_eq!(after.get(object), Some(identity), "{object} of {name}");
        }
        releases.done(&["rollback", name, "1", &format!("--namespace={name}")]);
        assert_eq!(releases.identities(name).await, before, "of {name}");

        // The definition of `FlashSale` belonged to the release then, and stays.
        releases.uninstalls(name);
        objects::delete(&releases.client, &installed(&releases.client).await).await;
    }
}
