//! The custom resource `FlashSale` on a real API server: the chart's definition matches the code, and invalid objects
//! are refused at admission with an explanation.

use holdfast_operator::sale::resource::{REVISION, REVISION_ANNOTATION};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{
    cluster::{Cluster, until},
    objects,
};

/// The file of the chart.
const DEFINITION: &str = include_str!("../../../../charts/holdfast/crds/flashsales.yaml");

#[test]
fn the_charts_definition_matches_the_code() {
    let printed = holdfast_operator::sale::resource::yaml().unwrap();
    assert!(
        DEFINITION == printed,
        "holdfast-operator crd > charts/holdfast/crds/flashsales.yaml, then make manifests"
    );
}

/// Installs the definition, once.
pub async fn install(client: &Client) {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    INSTALLED
        .get_or_init(async || {
            objects::create(client, &serde_saphyr::from_str(DEFINITION).unwrap()).await;
            let api = sales(client, "default");
            until("it is served", async || api.list(&ListParams::default()).await.is_ok()).await;
        })
        .await;
}

/// Replaces the definition by one of a chart from before there were revisions, with one column less.
pub async fn make_older(client: &Client) {
    make_another(client, &Value::Null).await;
}

/// Replaces the definition by one with one column less and another revision.
pub async fn make_another(client: &Client, revision: &Value) {
    let mut older: Value = serde_saphyr::from_str(DEFINITION).unwrap();
    older["spec"]["versions"][0]["additionalPrinterColumns"].as_array_mut().unwrap().pop();
    let patch = json!({
        "metadata": {"annotations": {REVISION_ANNOTATION: revision}},
        "spec": {"versions": older["spec"]["versions"]},
    });
    objects::merge(client, &older, &patch).await;
}

/// The definition on the API server.
pub async fn installed(client: &Client) -> Value {
    objects::get(client, &serde_saphyr::from_str(DEFINITION).unwrap()).await.unwrap()
}

pub fn columns(definition: &Value) -> usize {
    definition["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap().len()
}

/// The digest of the definition at its last revision. Both must change together.
#[test]
fn a_change_of_the_definition_raises_its_revision() {
    let spec = DEFINITION.split_once("\nspec:\n").unwrap().1;
    let mut digest = 0xcbf2_9ce4_8422_2325_u64;
    for byte in spec.bytes() {
        digest = (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    assert_eq!(
        (REVISION, digest),
        (2, 0x7300_b038_e60f_29f0),
        "the definition of FlashSale has changed: raise REVISION, and write both numbers here"
    );
}

fn sales(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("sales.holdfast.dev", "v1alpha1", "FlashSale");
    Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&kind))
}

fn sale(namespace: &str, name: &str) -> Value {
    let mut sale = objects::named("sales.holdfast.dev/v1alpha1", "FlashSale", namespace, name);
    sale["spec"] = json!({
        "products": [1],
        "startsAt": "2026-11-27T10:00:00Z",
        "endsAt": "2026-11-27T11:00:00Z",
        "workers": {"minReplicas": 6},
    });
    sale
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn admission_sets_defaults_and_refuses_invalid_values() {
    let cluster = Cluster::shared().await;
    let client = cluster.client().await;
    cluster.namespace(&client, "sale-resource").await;
    install(&client).await;
    let api = sales(&client, "sale-resource");
    let create = async |sale: &Value| {
        let sale = serde_json::from_value(sale.clone()).unwrap();
        api.create(&PostParams::default(), &sale).await
    };

    let made = create(&sale("sale-resource", "good")).await.unwrap();
    assert_eq!(made.data["spec"]["warmUpSeconds"], 300);
    assert_eq!(made.data["spec"]["openWhenNotReady"], true);

    for (field, value, sentence) in [
        ("endsAt", json!("2026-11-27T10:00:00Z"), "endsAt must be after startsAt"),
        ("startsAt", json!("soon"), "spec.startsAt"),
        ("workers", Value::Null, "workers, api or both must have a minimum"),
        ("workers", json!({"minReplicas": 0}), "spec.workers.minReplicas"),
        ("warmUpSeconds", json!(-1), "spec.warmUpSeconds"),
        ("warmUpSeconds", json!(86_401), "spec.warmUpSeconds"),
        ("perCustomer", json!(0), "spec.perCustomer"),
        ("products", json!([]), "spec.products"),
        ("products", json!([1, 1]), "spec.products"),
        ("products", json!([0]), "spec.products"),
        ("products", json!(["p"]), "spec.products"),
    ] {
        let mut bad = sale("sale-resource", "bad");
        let spec = bad["spec"].as_object_mut().unwrap();
        // Null counts as absent.
        if value.is_null() {
            spec.remove(field);
        } else {
            spec.insert(field.to_owned(), value);
        }
        let error = create(&bad).await.unwrap_err().to_string();
        assert!(error.contains(sentence), "{field}: {error}");
    }

    // Its window can be changed until it is open.
    let later = json!({"spec": {"endsAt": "2026-11-27T12:00:00Z"}});
    let merge = async |patch: &Value| {
        api.patch("good", &PatchParams::default(), &Patch::Merge(patch)).await
    };
    merge(&later).await.unwrap();
    let open = json!({"status": {"phase": "Open"}});
    api.patch_status("good", &PatchParams::default(), &Patch::Merge(&open)).await.unwrap();
    let later = json!({"spec": {"endsAt": "2026-11-27T13:00:00Z"}});
    let error = merge(&later).await.unwrap_err().to_string();
    assert!(error.contains("cannot be changed once the sale is open"), "{error}");
    merge(&json!({"spec": {"workers": {"minReplicas": 8}}})).await.unwrap();
}
