//! The chart grants the operator exactly the permissions that it uses.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    cluster::{
        API_WORKLOAD as API, Cluster, LEASE, NAMESPACE, SECRET, SERVICE, WORKER_WORKLOAD as WORKER,
        until,
    },
    objects,
};

/// The file that the chart reads.
const RIGHTS: &str = include_str!("../../../../charts/holdfast/files/operator-rights.yaml");

#[derive(Deserialize)]
struct Rights {
    namespace: Vec<Value>,
    sales: Vec<Value>,
    keda: Vec<Value>,
    crds: Vec<Value>,
    cluster: Vec<Value>,
    registers: Vec<Value>,
    #[serde(rename = "watchesItself")]
    watches_itself: Vec<Value>,
}

/// Permissions in the whole cluster.
fn of_cluster(rights: &Rights) -> Vec<Value> {
    rights.cluster.iter().chain(&rights.crds).cloned().collect()
}

fn rights() -> Rights {
    let text = RIGHTS.replace("TLS_SECRET", SECRET).replace("LEASE", LEASE);
    let text = text.replace("API_WORKLOAD", API).replace("WORKER_WORKLOAD", WORKER);
    let text = text.replace("OPERATOR_WORKLOAD", SERVICE);
    serde_saphyr::from_str(&text).unwrap()
}

/// Permissions in the operator's own namespace, without KEDA.
fn own(rights: &Rights) -> Vec<Value> {
    rights.namespace.iter().chain(&rights.sales).cloned().collect()
}

/// The objects that the chart creates from them for an operator in `namespace`.
pub fn objects(namespace: &str) -> Vec<Value> {
    const RBAC: &str = "rbac.authorization.k8s.io/v1";
    let rights = rights();
    let subjects = json!([{"kind": "ServiceAccount", "name": SERVICE, "namespace": namespace}]);
    let bound = |mut binding: Value, kind: &str, name: &str| {
        binding["subjects"] = subjects.clone();
        binding["roleRef"] =
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
        binding
    };
    let cluster_wide = |kind: &str| json!({"apiVersion": RBAC, "kind": kind, "metadata": {"name": format!("operator-{namespace}")}});
    let mut role = objects::named(RBAC, "Role", namespace, SERVICE);
    let itself = rights.watches_itself.clone();
    role["rules"] = json!(own(&rights).into_iter().chain(itself).collect::<Vec<_>>());
    let mut cluster_role = cluster_wide("ClusterRole");
    // The test of `withdrawal` uses these.
    let registers = rights.registers.clone();
    cluster_role["rules"] =
        json!(of_cluster(&rights).into_iter().chain(registers).collect::<Vec<_>>());
    let reader =
        objects::named(RBAC, "RoleBinding", "kube-system", &format!("operator-{namespace}"));
    vec![
        objects::named("v1", "ServiceAccount", namespace, SERVICE),
        role,
        bound(objects::named(RBAC, "RoleBinding", namespace, SERVICE), "Role", SERVICE),
        cluster_role,
        bound(cluster_wide("ClusterRoleBinding"), "ClusterRole", &format!("operator-{namespace}")),
        bound(reader, "Role", "extension-apiserver-authentication-reader"),
    ]
}

/// An indivisible permission: group, resource, verb, and a name or none.
type Right = (String, String, String, Option<String>);

fn cut(rules: &[Value]) -> BTreeSet<Right> {
    let texts = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .into_iter()
            .flatten()
            .map(|text| text.as_str().unwrap().to_owned())
            .collect()
    };
    let mut rights = BTreeSet::new();
    for rule in rules {
        let known = ["apiGroups", "resources", "verbs", "resourceNames"];
        assert!(
            rule.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())),
            "{rule}"
        );
        let names = texts(&rule["resourceNames"]);
        let names: Vec<_> =
            if names.is_empty() { vec![None] } else { names.into_iter().map(Some).collect() };
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    for name in &names {
                        rights.insert((
                            group.clone(),
                            resource.clone(),
                            verb.clone(),
                            name.clone(),
                        ));
                    }
                }
            }
        }
    }
    rights
}

/// The permissions that the operators of the shared replicas have used, according to the audit log.
fn used(audit_log: &str) -> Vec<(Right, Value)> {
    let user = format!("system:serviceaccount:{NAMESPACE}:{SERVICE}");
    audit_log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|event| event["user"]["username"] == user.as_str())
        .map(|event| {
            let text = |key: &str| event["objectRef"][key].as_str().unwrap_or_default().to_owned();
            let verb = event["verb"].as_str().unwrap().to_owned();
            let subresource = text("subresource");
            let resource = if subresource.is_empty() {
                text("resource")
            } else {
                format!("{}/{subresource}", text("resource"))
            };
            // Objects can be created without a permission for their name, and sales and events have any name.
            let any = has_any_name(&verb, &resource);
            let name = Some(text("name")).filter(|name| !any && !name.is_empty());
            ((text("apiGroup"), resource, verb, name), event)
        })
        .collect()
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn the_operator_has_exactly_the_permissions_that_it_uses() {
    let cluster = Cluster::shared().await;
    let client = cluster.client().await;
    let rights = rights();
    let given: BTreeSet<_> =
        cut(&own(&rights)).union(&cut(&of_cluster(&rights))).cloned().collect();
    // An object that must be written again.
    let orphan = json!({"metadata": {"ownerReferences": null}});
    objects::merge(&client, &objects::secret(NAMESPACE, SECRET), &orphan).await;
    // An open flash sale, one that is over, and one that stalls twice for the same reason.
    crate::sales::hold_one(cluster).await;
    // The definition of an older release.
    crate::sale_resource::install(&client).await;
    crate::sale_resource::make_older(&client).await;
    // A request of an unknown caller.
    let headers = [("x-remote-user", "rights")];
    let proxy = cluster.kubernetes.front_proxy().unwrap();
    let asker = crate::wire::Asker::new(cluster, cluster.first.tls, Some(proxy), &headers).await;
    let path = format!("{}/namespaces/{NAMESPACE}/holdfast_queue_depth", crate::cluster::API);
    assert_eq!(asker.get(&path).await.0, 403);

    let mut unused = given.clone();
    until("each permission was used", async || {
        eprintln!("not used yet: {unused:?}");
        for (right, _) in used(&cluster.kubernetes.audit_log().unwrap()) {
            unused.remove(&right);
        }
        unused.is_empty()
    })
    .await;
    // There were no requests without a permission.
    for (right, event) in used(&cluster.kubernetes.audit_log().unwrap()) {
        assert_ne!(event["responseStatus"]["code"], 403, "{event}");
        let built_in = right.3.as_deref() == Some("extension-apiserver-authentication");
        assert!(given.contains(&right) || built_in, "{right:?}: {event}");
    }
}

fn has_any_name(verb: &str, resource: &str) -> bool {
    verb == "create" || resource.starts_with("flashsales") || resource == "events"
}

#[test]
fn no_permission_uses_a_wildcard() {
    let rights = rights();
    let mut all = own(&rights);
    let mut cluster = of_cluster(&rights);
    all.extend(rights.keda);
    all.extend(rights.watches_itself);
    cluster.extend(rights.registers);
    for (group, resource, verb, name) in cut(&all).union(&cut(&cluster)) {
        assert!(![group, resource, verb].iter().any(|text| text.contains('*')), "{resource}");
        // The names of sales are not known beforehand.
        let any = has_any_name(verb, resource) && resource != "apiservices";
        assert_eq!(name.is_none(), any, "{verb} of any of {resource}");
    }
}
