//! Which clients get answers.

use holdfast_sandbox::{CertificatePair, SandboxAuthority};
use kube::{Client, Config, config::KubeConfigOptions, config::Kubeconfig};
use serde_json::{Value, json};

use crate::{
    answers::queue,
    cluster::{API, Cluster, redis, until},
    objects,
    wire::Asker,
};

/// A description, the certificate, the headers, and the expected status.
type CallerCase<'a> = (&'a str, Option<CertificatePair>, &'a [(&'a str, &'a str)], u16);

const PATH: &str =
    "/apis/external.metrics.k8s.io/v1beta1/namespaces/strangers/holdfast_queue_depth";

async fn listed(cluster: &Cluster, namespace: &str) -> holdfast_sandbox::Redis {
    let redis = redis().await;
    crate::answers::ready(&queue(&redis.url())).await;
    cluster.namespace(&cluster.client().await, namespace).await;
    cluster.list(namespace, "shop", &redis.url()).await;
    redis
}

/// Grants a user the permission to read the metrics in a namespace.
async fn allow(client: &Client, namespace: &str, subject: Value) {
    let mut role = objects::named("rbac.authorization.k8s.io/v1", "Role", namespace, "reader");
    role["rules"] = json!([{
        "apiGroups": ["external.metrics.k8s.io"],
        "resources": ["holdfast_queue_depth"],
        "verbs": ["list"],
    }]);
    objects::create(client, &role).await;
    let mut binding =
        objects::named("rbac.authorization.k8s.io/v1", "RoleBinding", namespace, "reader");
    binding["roleRef"] =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"});
    binding["subjects"] = json!([subject]);
    objects::create(client, &binding).await;
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn only_the_api_server_can_name_callers_and_they_need_the_permission() {
    let cluster = Cluster::shared().await;
    let _redis = listed(cluster, "strangers").await;
    let group =
        json!({"kind": "Group", "name": "readers", "apiGroup": "rbac.authorization.k8s.io"});
    allow(&cluster.client().await, "strangers", group).await;
    let proxy = || cluster.kubernetes.front_proxy().unwrap();
    let root = [("x-remote-user", "root"), ("x-remote-group", "system:masters")];
    let nobody = cluster.kubernetes.authority().client("front-proxy-client", &[]).unwrap();
    let misnamed = cluster.kubernetes.front_authority().client("eve", &[]).unwrap();
    let server = cluster.kubernetes.front_authority().server(&["front-proxy-client"]).unwrap();
    let own = SandboxAuthority::new("front-ca").unwrap().client("front-proxy-client", &[]).unwrap();
    // Each replica decides itself.
    for address in [cluster.first.tls, cluster.second.tls] {
        let cases: [CallerCase; 10] = [
            ("no certificate", None, &root, 401),
            ("of the cluster's own clients", Some(nobody.clone()), &root, 401),
            ("of an authority of the same name", Some(own.clone()), &root, 401),
            ("of the right authority, for another", Some(misnamed.clone()), &root, 401),
            ("a server's certificate", Some(server.clone()), &root, 401),
            ("nobody is named", Some(proxy()), &[], 401),
            ("without the right", Some(proxy()), &[("x-remote-user", "jane")], 403),
            (
                "anonymous",
                Some(proxy()),
                &[
                    ("x-remote-user", "system:anonymous"),
                    ("x-remote-group", "system:unauthenticated"),
                ],
                403,
            ),
            (
                "with the right by the second group",
                Some(proxy()),
                &[("x-remote-user", "joe"), ("x-remote-group", "x"), ("x-remote-group", "readers")],
                200,
            ),
            ("who may do anything", Some(proxy()), &root, 200),
        ];
        for (who, pair, headers, code) in cases {
            let asker = Asker::new(cluster, address, pair, headers).await;
            let (status, body) = asker.get(PATH).await;
            assert_eq!(status, code, "{who}: {body}");
            if code != 200 {
                assert_eq!(body["kind"], "Status", "{who}: {body}");
                assert_eq!(body["code"], code, "{who}: {body}");
            }
        }
        let asker = Asker::new(cluster, address, Some(proxy()), &root).await;
        for (method, path, code) in [
            ("POST", PATH, 405),
            ("DELETE", PATH, 405),
            ("GET", "/", 404),
            ("GET", "/metrics", 404),
            ("GET", "/apis/external.metrics.k8s.io/v1", 404),
            ("GET", API, 200),
        ] {
            assert_eq!(asker.ask(method, path).await.0, code, "{method} {path}");
        }
    }
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn a_permission_is_granted_and_revoked_within_the_lifetime_of_the_cache() {
    let cluster = Cluster::shared().await;
    let _redis = listed(cluster, "granted").await;
    let client = cluster.client().await;
    objects::create(&client, &objects::named("v1", "ServiceAccount", "granted", "reader")).await;
    let token = objects::token(&client, "granted", "reader").await;
    let kubeconfig = Kubeconfig::from_yaml(&cluster.kubernetes.kubeconfig(&token)).unwrap();
    let config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let reader = Client::try_from(config).unwrap();
    let path = PATH.replace("strangers", "granted");
    let code = async |client: &Client| match cluster.get(client, &path).await {
        Ok(_) => 200,
        Err(kube::Error::Api(status)) => status.code,
        Err(error) => panic!("{error}"),
    };
    // Through the API server, which checks the permission before it forwards the request.
    assert_eq!(code(&reader).await, 403);
    let account = json!({"kind": "ServiceAccount", "name": "reader", "namespace": "granted"});
    allow(&client, "granted", account).await;
    until("the permission is granted", async || code(&reader).await == 200).await;
    // Directly, where only the operator's own check counts.
    let headers = [("x-remote-user", "system:serviceaccount:granted:reader")];
    let proxy = cluster.kubernetes.front_proxy().unwrap();
    let asker = Asker::new(cluster, cluster.second.tls, Some(proxy), &headers).await;
    until("the operator knows it", async || asker.get(&path).await.0 == 200).await;
    let binding =
        objects::named("rbac.authorization.k8s.io/v1", "RoleBinding", "granted", "reader");
    objects::delete(&client, &binding).await;
    until("the permission is revoked", async || asker.get(&path).await.0 == 403).await;
    assert!(
        cluster.second.metric("holdfast_operator_access_reviews_total{verdict=\"denied\"}").await
            >= 1.0
    );
}

#[tokio::test]
#[ignore = "needs a Kubernetes control plane: scripts/kubernetes-assets"]
async fn a_ca_of_the_api_server_is_trusted_only_while_it_is_listed() {
    let cluster = Cluster::shared().await;
    let client = cluster.client().await;
    let next = SandboxAuthority::new("next-front-ca").unwrap();
    let pair = next.client("front-proxy-client", &[]).unwrap();
    let root = [("x-remote-user", "root"), ("x-remote-group", "system:masters")];
    let asker = Asker::new(cluster, cluster.second.tls, Some(pair), &root).await;
    assert_eq!(asker.get(API).await.0, 401);
    // A bundle of two CAs, as during a rotation.
    let object =
        objects::named("v1", "ConfigMap", "kube-system", "extension-apiserver-authentication");
    let key = "requestheader-client-ca-file";
    let found = objects::get(&client, &object).await.unwrap();
    let before = found["data"][key].as_str().unwrap().to_owned();
    let both = format!("{before}{}", next.certificate());
    objects::merge(&client, &object, &json!({"data": {key: both}})).await;
    until("the next CA is trusted", async || asker.get(API).await.0 == 200).await;
    // The connection stays open, and each request is checked again.
    objects::merge(&client, &object, &json!({"data": {key: before}})).await;
    until("it is no longer trusted", async || asker.get(API).await.0 == 401).await;
    let proxy = cluster.kubernetes.front_proxy().unwrap();
    let asker = Asker::new(cluster, cluster.second.tls, Some(proxy), &root).await;
    assert_eq!(asker.get(API).await.0, 200, "the former authority is still trusted");
}
