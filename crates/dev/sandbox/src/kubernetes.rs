//! A private Kubernetes control plane without nodes: etcd, API server and controller manager.
//!
//! It handles objects as a cluster does: validation, admission, RBAC, aggregation, the HPA, Deployments down to their
//! Pods, garbage collection. The Pods do not run.

mod assets;
mod pki;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::folder::{Folder, Keep};
use crate::port::Port;
use crate::process::{Process, ProcessOptions, Ready};

pub use assets::{KubernetesAssets, MissingAssets};
pub use pki::{CertificatePair, SandboxAuthority};

/// The API server takes a few seconds to start, and longer on a busy machine.
const START_LIMIT: Duration = Duration::from_mins(2);
/// The time limit of one readiness check.
const TRY_LIMIT: Duration = Duration::from_secs(2);
/// The common name of the client certificate that the API server presents to aggregated servers.
const FRONT_PROXY: &str = "front-proxy-client";

/// A running control plane on 127.0.0.1. Dropping it kills it and removes its folder.
#[derive(Debug)]
pub struct Kubernetes {
    /// Before the folder, and in this order: clients end before their servers.
    _controller_manager: Process,
    api_server: Process,
    _etcd: Process,
    port: Port,
    _etcd_ports: [Port; 2],
    ca: SandboxAuthority,
    front_ca: SandboxAuthority,
    folder: Folder,
}

impl Kubernetes {
    /// Starts a control plane. Returns when its API server is ready.
    ///
    /// # Errors
    /// A program does not start; the error ends with its log.
    pub async fn start(assets: &KubernetesAssets) -> anyhow::Result<Self> {
        let folder = Folder::open(&Keep::Nothing, "kubernetes")?;
        let [port, etcd_port, peer_port] = [Port::lease()?, Port::lease()?, Port::lease()?];
        let (ca, front_ca) = (SandboxAuthority::new("ca")?, SandboxAuthority::new("front-ca")?);
        let (path, write) = (folder.path(), |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        });
        let server =
            ca.server(&["kubernetes.default.svc", "localhost", "127.0.0.1", "10.96.0.1"])?;
        write("ca.crt", ca.certificate())?;
        write("server.crt", server.certificate)?;
        write("server.key", server.key)?;
        write("front-ca.crt", front_ca.certificate())?;
        let front_proxy = front_ca.client(FRONT_PROXY, &[])?;
        write("front-proxy.crt", front_proxy.certificate)?;
        write("front-proxy.key", front_proxy.key)?;
        let (accounts_key, accounts_public) = pki::signing_key()?;
        write("accounts.key", accounts_key)?;
        write("accounts.pub", accounts_public)?;
        write("audit.yaml", AUDIT.to_owned())?;
        let address = port.address();
        for (name, user, groups) in [
            ("admin.conf", "admin", &["system:masters"] as &[&str]),
            ("controller-manager.conf", "system:kube-controller-manager", &[]),
        ] {
            write(name, kubeconfig(address, &ca, &Login::Certificate(ca.client(user, groups)?)))?;
        }

        let etcd = Process::start(etcd(assets, &etcd_port, &peer_port)).await?;
        let api_server =
            Process::start(api_server(assets, path, &port, &etcd_port).ready(Ready::Tcp(address)))
                .await?;
        until_ready(&api_server, &client_of(&folder.path().join("admin.conf")).await?).await?;
        let controller_manager = Process::start(controller_manager(assets, path)).await?;
        Ok(Self {
            _controller_manager: controller_manager,
            api_server,
            _etcd: etcd,
            port,
            _etcd_ports: [etcd_port, peer_port],
            ca,
            front_ca,
            folder,
        })
    }

    /// The URL of the API server.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// A folder for files that are removed with the control plane.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The path of a kubeconfig with all permissions.
    pub fn admin(&self) -> PathBuf {
        self.folder.path().join("admin.conf")
    }

    /// A client with all permissions.
    ///
    /// # Errors
    /// The client cannot be created.
    pub async fn client(&self) -> anyhow::Result<Client> {
        client_of(&self.admin()).await
    }

    /// The text of a kubeconfig for a token, such as a service account's.
    pub fn kubeconfig(&self, token: &str) -> String {
        kubeconfig(self.address(), &self.ca, &Login::Token(token.to_owned()))
    }

    /// The client certificate and key that the API server presents to aggregated servers.
    ///
    /// # Errors
    /// It cannot be issued.
    pub fn front_proxy(&self) -> anyhow::Result<CertificatePair> {
        self.front_ca.client(FRONT_PROXY, &[])
    }

    /// The CA of [`front_proxy`](Self::front_proxy), for issuing other certificates.
    pub fn front_authority(&self) -> &SandboxAuthority {
        &self.front_ca
    }

    /// The CA of the cluster's own clients, which aggregated servers must not trust.
    pub fn authority(&self) -> &SandboxAuthority {
        &self.ca
    }

    /// The audit log of the API server: one line of JSON for each request that was answered.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn audit_log(&self) -> anyhow::Result<String> {
        std::fs::read_to_string(self.folder.path().join("audit.log")).context("no audit log")
    }

    /// The last lines of the API server's log.
    pub fn log_tail(&self, lines: usize) -> String {
        self.api_server.log_tail(lines)
    }
}

async fn client_of(kubeconfig: &Path) -> anyhow::Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// The requests without their contents, one line for each answer.
const AUDIT: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
  - level: Metadata
    userGroups: ['system:serviceaccounts']
  - level: None
";

fn etcd(assets: &KubernetesAssets, client: &Port, peer: &Port) -> ProcessOptions {
    let (client, peer) =
        (format!("http://{}", client.address()), format!("http://{}", peer.address()));
    let ready = format!("{client}/health");
    [
        "--data-dir=data".to_owned(),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
    ]
    .into_iter()
    .fold(ProcessOptions::new(&assets.etcd), ProcessOptions::arg)
    .ready(Ready::Http(ready))
}

fn api_server(
    assets: &KubernetesAssets,
    folder: &Path,
    port: &Port,
    etcd: &Port,
) -> ProcessOptions {
    let file = |name: &str| folder.join(name).display().to_string();
    [
        format!("--etcd-servers=http://{}", etcd.address()),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={}", port.number()),
        // It is not looked up, but it must not be a loopback address.
        "--advertise-address=192.0.2.1".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        // Tests send few requests, all from one address.
        "--enable-priority-and-fairness=false".to_owned(),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--tls-cert-file={}", file("server.crt")),
        format!("--tls-private-key-file={}", file("server.key")),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", file("accounts.pub")),
        format!("--service-account-signing-key-file={}", file("accounts.key")),
        format!("--requestheader-client-ca-file={}", file("front-ca.crt")),
        format!("--requestheader-allowed-names={FRONT_PROXY}"),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-uid-headers=X-Remote-Uid".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        format!("--proxy-client-cert-file={}", file("front-proxy.crt")),
        format!("--proxy-client-key-file={}", file("front-proxy.key")),
        format!("--audit-policy-file={}", file("audit.yaml")),
        format!("--audit-log-path={}", file("audit.log")),
        "--audit-log-mode=blocking".to_owned(),
    ]
    .into_iter()
    .fold(ProcessOptions::new(&assets.api_server), ProcessOptions::arg)
    .limit(START_LIMIT)
}

fn controller_manager(assets: &KubernetesAssets, folder: &Path) -> ProcessOptions {
    let file = |name: &str| folder.join(name).display().to_string();
    [
        format!("--kubeconfig={}", file("controller-manager.conf")),
        format!("--root-ca-file={}", file("ca.crt")),
        format!("--service-account-private-key-file={}", file("accounts.key")),
        // Each controller has the permissions of its own service account, as in a real cluster.
        "--use-service-account-credentials".to_owned(),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
        "--controllers=deployment-controller,replicaset-controller,garbage-collector-controller,\
         horizontal-pod-autoscaler-controller,namespace-controller,serviceaccount-controller"
            .to_owned(),
        // The default interval is 15 seconds.
        "--horizontal-pod-autoscaler-sync-period=1s".to_owned(),
        "--horizontal-pod-autoscaler-downscale-stabilization=1s".to_owned(),
    ]
    .into_iter()
    .fold(ProcessOptions::new(&assets.controller_manager), ProcessOptions::arg)
}

async fn until_ready(server: &Process, client: &Client) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let request = http::Request::get("/readyz").body(Vec::new())?;
        let answer = tokio::time::timeout(TRY_LIMIT, client.request_text(request)).await;
        if matches!(answer, Ok(Ok(_))) {
            return Ok(());
        }
        if let Some(status) = server.status() {
            bail!("kube-apiserver ended ({status}):\n{}", server.log_tail(20));
        }
        if begun.elapsed() > START_LIMIT {
            bail!("kube-apiserver is not ready:\n{}", server.log_tail(20));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

enum Login {
    Certificate(CertificatePair),
    Token(String),
}

/// JSON is YAML.
fn kubeconfig(address: SocketAddr, ca: &SandboxAuthority, login: &Login) -> String {
    let user = match login {
        Login::Certificate(pair) => serde_json::json!({
            "client-certificate-data": pki::base64(&pair.certificate),
            "client-key-data": pki::base64(&pair.key),
        }),
        Login::Token(token) => serde_json::json!({ "token": token }),
    };
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "sandbox", "cluster": {
            "server": format!("https://{address}"),
            "certificate-authority-data": pki::base64(&ca.certificate()),
        }}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": "user"}}],
        "current-context": "sandbox",
    })
    .to_string()
}
