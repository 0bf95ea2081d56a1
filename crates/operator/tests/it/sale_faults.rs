//! Flash sales during faults: of one of them, of the database, or of the replica that manages them. The controller runs
//! as in the operator, by the database's clock.

use holdfast_operator::sale::resource::Phase;
use holdfast_sandbox::{Proxy, shared_postgres};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, OperatorReplica, install, until},
    objects,
    sales::fixture::SaleFixture,
};

/// Refuses each write of the status of the sale `bad` in a namespace.
async fn refuse_statuses_of_bad(fixture: &SaleFixture) {
    let name = format!("no-status-{}", fixture.namespace);
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["sales.holdfast.dev"], "apiVersions": ["*"], "operations": ["UPDATE"],
                "resources": ["flashsales/status"],
            }]},
            "validations": [{"expression":
                format!("object.metadata.name != 'bad' || object.metadata.namespace != '{}'", fixture.namespace)}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]},
    });
    objects::create(&fixture.client, &policy).await;
    objects::create(&fixture.client, &binding).await;
    let status = json!({"status": {"phase": "Scheduled"}});
    until("the policy is in force", async || {
        fixture.try_patch_status("bad", &status).await.is_err()
    })
    .await;
    let none = json!({"status": null});
    let _ = fixture.try_patch_status("bad", &none).await;
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn a_sale_whose_status_cannot_be_written_delays_no_others() {
    let fixture = SaleFixture::new("sale-bad").await;
    fixture.sale("bad", &json!({"workers": {"minReplicas": 3}})).await;
    refuse_statuses_of_bad(&fixture).await;
    let _leader = fixture.lead();
    fixture.sale("good", &json!({"workers": {"minReplicas": 3}})).await;
    until("the other's phase is shown", async || {
        fixture.shown("good").await == Some(Phase::Scheduled)
    })
    .await;
    until("it is written nevertheless", async || fixture.in_database("bad").await.is_some()).await;
}

/// A fixture whose controllers reach the database only through a proxy; returns its addresses through the proxy and
/// directly.
async fn behind_proxy(namespace: &'static str, fresh: bool) -> (SaleFixture, Proxy, [String; 2]) {
    let url = SaleFixture::database().await;
    let port = shared_postgres().await.unwrap().port();
    let proxy = Proxy::start(([127, 0, 0, 1], port).into()).await.unwrap();
    let proxied = url.replace(&format!(":{port}/"), &format!(":{}/", proxy.address().port()));
    assert_ne!(url, proxied);
    let fixture = SaleFixture::with_databases(namespace, &proxied, &url, fresh).await;
    (fixture, proxy, [proxied, url])
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn a_sale_that_is_not_recorded_is_stalled_and_opens_later() {
    let (fixture, proxy, _) = behind_proxy("sale-silent", true).await;
    let _leader = fixture.lead();
    fixture.sale_from_now("first", 120, 600).await;
    until("it is scheduled", async || fixture.shown("first").await.is_some()).await;
    proxy.blackhole(true);
    fixture.sale_from_now("silent", -1, 600).await;
    until("it is stalled", async || fixture.shown("silent").await == Some(Phase::Stalled)).await;
    assert_eq!(fixture.reason(&fixture.status("silent").await), "DatabaseUnavailable");
    assert_eq!(fixture.in_database("silent").await, None);
    until("there is an event", async || {
        fixture.events("silent").await.contains(&"DatabaseUnavailable".to_owned())
    })
    .await;
    // The recorded sale continues.
    assert_eq!(fixture.shown("first").await, Some(Phase::Warming));
    proxy.blackhole(false);
    until("it is open", async || fixture.shown("silent").await == Some(Phase::Open)).await;
    assert!(fixture.in_database("silent").await.is_some());
    until("there is an event", async || {
        fixture.events("silent").await.contains(&"Open".to_owned())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn a_sale_of_an_unknown_release_gets_a_status_and_an_event() {
    let fixture = SaleFixture::new("sale-release").await;
    fixture.sale("typo", &json!({"release": "holdfats", "workers": {"minReplicas": 3}})).await;
    fixture.round("09:00:00").await;
    let status = fixture.status("typo").await;
    assert_eq!(status["phase"], "Failed");
    assert_eq!(fixture.reason(&status), "UnknownRelease");
    assert_eq!(fixture.events("typo").await, ["UnknownRelease"]);
    assert_eq!(fixture.in_database("typo").await, None);
    fixture.edit("typo", &json!({"spec": {"release": "holdfast"}})).await;
    fixture.round("09:00:01").await;
    assert_eq!(fixture.phase("typo").await, Phase::Scheduled);
    assert!(fixture.in_database("typo").await.is_some());
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn a_sale_of_another_operator_is_not_changed() {
    let fixture = SaleFixture::new("sale-other").await;
    fixture.sale("other", &json!({"release": "second", "workers": {"minReplicas": 3}})).await;
    // It has no status yet, and its own operator may write one.
    let _leader = fixture.lead();
    let theirs = json!({"status": {"phase": "Open", "observedGeneration": 1}});
    fixture.try_patch_status("other", &theirs).await.unwrap();
    fixture.round("10:30:00").await;
    assert_eq!(fixture.status("other").await, theirs["status"]);
    assert_eq!(fixture.minimums().await, (1, 1));
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn a_sale_of_an_unknown_product_opens_when_the_product_exists() {
    let fixture = SaleFixture::new("sale-product").await;
    fixture.sale("early", &json!({"products": [1, 2], "workers": {"minReplicas": 1}})).await;
    fixture.round("10:10:00").await;
    let status = fixture.status("early").await;
    assert_eq!(status["phase"], "Stalled");
    assert_eq!(fixture.reason(&status), "UnknownProducts");
    assert_eq!(fixture.events("early").await, ["UnknownProducts"]);
    fixture.create_product().await;
    fixture.round("10:10:05").await;
    assert_eq!(fixture.phase("early").await, Phase::Open);
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn a_window_that_cannot_be_read_gets_a_status_and_an_event() {
    let fixture = SaleFixture::new("sale-window").await;
    // The API server accepts more digits than a clock has.
    let window = json!({"startsAt": "2036-11-27T10:00:00.0123456789Z"});
    let mut fields = window.clone();
    fields["workers"] = json!({"minReplicas": 1});
    fixture.sale("digits", &fields).await;
    fixture.round("09:00:00").await;
    let status = fixture.status("digits").await;
    assert_eq!(status["phase"], "Failed");
    assert_eq!(fixture.reason(&status), "InvalidSpec");
    assert_eq!(fixture.events("digits").await, ["InvalidSpec"]);

    // A previously recorded sale stays in force.
    fixture.sale("edited", &json!({"workers": {"minReplicas": 1}})).await;
    fixture.round("09:00:00").await;
    fixture.edit("edited", &json!({"spec": window})).await;
    fixture.round("10:00:00").await;
    let status = fixture.status("edited").await;
    assert_eq!(status["phase"], "Open");
    assert_eq!(fixture.reason(&status), "InvalidSpec");
}

async fn leads(replica: &OperatorReplica) -> bool {
    replica.metric("holdfast_operator_leader").await > 0.5
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn a_leader_without_progress_releases_the_lease_and_the_sale_is_recorded() {
    let cluster = Cluster::shared().await;
    let client = cluster.client().await;
    let kubeconfig = install(&cluster.kubernetes, &client, "sale-leader").await;
    let (fixture, proxy, [proxied, direct]) = behind_proxy("sale-leader", false).await;
    let start = async |database: &str| {
        let settings = [("REDIS_URL", "redis://127.0.0.1:1"), ("DATABASE_URL", database)];
        OperatorReplica::start(&kubeconfig, "sale-leader", &settings).await
    };
    let first = start(&proxied).await;
    until("the first leads", async || leads(&first).await).await;
    let second = start(&direct).await;
    proxy.blackhole(true);
    fixture.sale_from_now("late", -1, 600).await;
    until("the second leads", async || leads(&second).await).await;
    until("the sale is written", async || fixture.in_database("late").await.is_some()).await;
    until("it is open", async || fixture.shown("late").await == Some(Phase::Open)).await;
    assert!(!leads(&first).await);
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn a_leader_that_cannot_reach_the_api_server_stops_writing() {
    let cluster = Cluster::shared().await;
    let client = cluster.client().await;
    let direct = install(&cluster.kubernetes, &client, "lease-cut").await;
    let server = cluster.kubernetes.address();
    let proxy = Proxy::start(server).await.unwrap();
    let text = std::fs::read_to_string(&direct).unwrap();
    let proxied = direct.with_extension("proxied");
    let text = text.replace(&server.port().to_string(), &proxy.address().port().to_string());
    std::fs::write(&proxied, text).unwrap();
    let settings = [("REDIS_URL", "redis://127.0.0.1:1")];
    let replica = OperatorReplica::start(&proxied, "lease-cut", &settings).await;
    until("it leads", async || leads(&replica).await).await;
    proxy.blackhole(true);
    until("it stops", async || !leads(&replica).await).await;
    proxy.blackhole(false);
    until("it leads again", async || leads(&replica).await).await;
}

impl SaleFixture {
    async fn try_patch_status(&self, name: &str, patch: &Value) -> kube::Result<()> {
        let api = self.sales();
        let patch = Patch::Merge(patch);
        api.patch_status(name, &PatchParams::default(), &patch).await.map(drop)
    }
}
