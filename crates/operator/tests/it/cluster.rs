//! A control plane for all tests, with two replicas of the operator.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

pub use holdfast_sandbox::until;
use holdfast_sandbox::{
    Kubernetes, KubernetesAssets, Port, Process, ProcessOptions, Ready, Redis, RedisOptions,
    metric, shared_postgres,
};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::{Mutex, OnceCell};

use crate::{objects, rights};

/// The namespace of the shared replicas.
pub const NAMESPACE: &str = "holdfast";
pub const SERVICE: &str = "holdfast-operator";
pub const SECRET: &str = "holdfast-operator-tls";
pub const LEASE: &str = "holdfast-operator";
pub const API_WORKLOAD: &str = "holdfast-api";
pub const WORKER_WORKLOAD: &str = "holdfast-worker";
pub const API: &str = "/apis/external.metrics.k8s.io/v1beta1";

pub struct Cluster {
    pub kubernetes: Kubernetes,
    /// The database for the sales of the shared replicas; not migrated.
    pub database_url: String,
    /// The replica that the API server uses.
    pub first: OperatorReplica,
    /// The other replica, which the API server could use as well.
    pub second: OperatorReplica,
    /// The queues that are listed, and the file.
    listed: Mutex<Vec<Value>>,
    queues_file: PathBuf,
}

pub struct OperatorReplica {
    pub process: Process,
    pub tls: SocketAddr,
    pub metrics: SocketAddr,
    _ports: [Port; 2],
}

impl OperatorReplica {
    /// Starts a replica with short times, and waits until it is ready.
    pub async fn start(kubeconfig: &Path, namespace: &str, settings: &[(&str, &str)]) -> Self {
        let ports = [Port::lease().unwrap(), Port::lease().unwrap()];
        let [tls, metrics] = [ports[0].address(), ports[1].address()];
        let mut options = ProcessOptions::new(env!("CARGO_BIN_EXE_holdfast-operator"))
            .arg("run")
            .env("KUBECONFIG", kubeconfig.display().to_string())
            .env("HOLDFAST_OPERATOR_NAMESPACE", namespace)
            .env("HOLDFAST_EXTERNAL_METRICS_ADDR", tls.to_string())
            .env("HOLDFAST_METRICS_ADDR", metrics.to_string())
            .env("HOLDFAST_QUEUE_TIMEOUT_MS", "2000")
            .env("HOLDFAST_SYNC_INTERVAL_MS", "200")
            .env("HOLDFAST_ACCESS_CACHE_MS", "200")
            .env("HOLDFAST_LEASE_DURATION_MS", "4000")
            .ready(Ready::Http(format!("http://{metrics}/readyz")));
        for (name, value) in settings {
            options = options.env(*name, *value);
        }
        let process = Process::start(options).await.unwrap();
        Self { process, tls, metrics, _ports: ports }
    }

    /// The value of a metric; a missing one fails the test.
    pub async fn metric(&self, series: &str) -> f64 {
        let url = format!("http://{}/metrics", self.metrics);
        metric(&holdfast_sandbox::http_get(&url).await.unwrap().body, series)
    }
}

impl Cluster {
    /// The cluster of this process.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    async fn start() -> Self {
        let assets = KubernetesAssets::find().unwrap();
        let kubernetes = Kubernetes::start(&assets).await.unwrap();
        let client = kubernetes.client().await.unwrap();
        let queues_file = kubernetes.folder().join("queues.yaml");
        fs::write(&queues_file, "queues: []").unwrap();
        let kubeconfig = install(&kubernetes, &client, NAMESPACE).await;
        let database_url = shared_postgres().await.unwrap().create_database().await.unwrap();
        let [api, worker] =
            [API_WORKLOAD, WORKER_WORKLOAD].map(|name| format!("HorizontalPodAutoscaler/{name}"));
        let settings = [
            ("HOLDFAST_QUEUES_FILE", queues_file.to_str().unwrap()),
            ("DATABASE_URL", &database_url),
            ("HOLDFAST_SALES_API_AUTOSCALER", &api),
            ("HOLDFAST_SALES_WORKER_AUTOSCALER", &worker),
        ];
        // The ports are known only when they run.
        objects::create(&client, &objects::api_service(NAMESPACE, SERVICE, 1)).await;
        let (first, second) = tokio::join!(
            OperatorReplica::start(&kubeconfig, NAMESPACE, &settings),
            OperatorReplica::start(&kubeconfig, NAMESPACE, &settings),
        );
        objects::create(&client, &objects::service(NAMESPACE, SERVICE, first.tls.port())).await;
        let port = json!({"spec": {"service": {"port": first.tls.port()}}});
        objects::merge(&client, &objects::api_service(NAMESPACE, SERVICE, 1), &port).await;
        let cluster =
            Self { kubernetes, database_url, first, second, listed: Mutex::default(), queues_file };
        for replica in [&cluster.first, &cluster.second] {
            until("a replica is ready", async || {
                let url = format!("http://{}/readyz", replica.metrics);
                holdfast_sandbox::http_get(&url).await.is_ok_and(|answer| answer.status == 200)
            })
            .await;
        }
        until("the API is available", async || cluster.get(&client, API).await.is_ok()).await;
        cluster
    }

    pub async fn client(&self) -> Client {
        self.kubernetes.client().await.unwrap()
    }

    /// The answer of the API server to a client with all permissions.
    pub async fn get(&self, client: &Client, path: &str) -> kube::Result<Value> {
        client.request(http::Request::get(path).body(Vec::new()).unwrap()).await
    }

    /// Creates a namespace.
    pub async fn namespace(&self, client: &Client, name: &str) {
        objects::create(client, &objects::namespace(name)).await;
    }

    /// Lists a queue, and waits until both replicas have read it.
    pub async fn list(&self, namespace: &str, release: &str, redis_url: &str) {
        let count = {
            let mut listed = self.listed.lock().await;
            listed.push(json!({
                "namespace": namespace, "release": release, "redisUrl": redis_url,
            }));
            // Like the kubelet, which replaces the file as a whole.
            let next = self.queues_file.with_extension("next");
            fs::write(&next, json!({ "queues": *listed }).to_string()).unwrap();
            fs::rename(next, &self.queues_file).unwrap();
            listed.len()
        };
        for replica in [&self.first, &self.second] {
            until("the queue is listed", async || {
                replica.metric("holdfast_operator_queues").await
                    >= f64::from(u32::try_from(count).unwrap())
            })
            .await;
        }
    }
}

/// Creates the service account of an operator with its permissions. Returns the path of its kubeconfig.
pub async fn install(kubernetes: &Kubernetes, client: &Client, namespace: &str) -> PathBuf {
    objects::create(client, &objects::namespace(namespace)).await;
    for object in rights::objects(namespace) {
        objects::create(client, &object).await;
    }
    let token = objects::token(client, namespace, SERVICE).await;
    let path = kubernetes.folder().join(format!("{namespace}.conf"));
    fs::write(&path, kubernetes.kubeconfig(&token)).unwrap();
    path
}

pub async fn redis() -> Redis {
    Redis::start(RedisOptions::default()).await.unwrap()
}
