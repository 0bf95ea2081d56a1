//! One node: its processes, its ports, and the proxies in front of them.

use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use nix::unistd::User;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::child::{Child, Launch, log_tail};
use crate::folder::{self, Folder, Keep};
use crate::port::Port;
use crate::programs::{self, PostgresVersion, on_path};
use crate::proxy::Proxy;

/// The name of the cluster.
pub(super) const SCOPE: &str = "holdfast";

#[derive(Debug)]
pub(super) struct Node {
    name: String,
    /// `None` while it is down. PostgreSQL is not its child.
    patroni: Mutex<Option<Child>>,
    server: Port,
    rest: Port,
    /// In front of PostgreSQL, for clients and for the other nodes.
    to_clients: Proxy,
    to_nodes: Proxy,
    /// In front of Patroni's REST interface, for the other nodes.
    to_rest: Proxy,
    /// In front of etcd, for this node.
    to_etcd: Proxy,
    user: Option<User>,
    folder: Folder,
}

impl Node {
    pub(super) async fn prepare(number: usize, etcd: SocketAddr) -> anyhow::Result<Self> {
        let (server, rest) = (Port::lease()?, Port::lease()?);
        let folder = Folder::open(&Keep::Nothing, "patroni")?;
        let user = programs::server_user()?;
        if let Some(user) = &user {
            // Patroni makes, removes and renames the data folder.
            chown(folder.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        Ok(Self {
            name: format!("node{number}"),
            patroni: Mutex::default(),
            to_clients: Proxy::start(server.address()).await?,
            to_nodes: Proxy::start(server.address()).await?,
            to_rest: Proxy::start(rest.address()).await?,
            to_etcd: Proxy::start(etcd).await?,
            server,
            rest,
            user,
            folder,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The address of PostgreSQL for clients.
    pub(super) fn clients(&self) -> SocketAddr {
        self.to_clients.address()
    }

    /// The address of PostgreSQL without a proxy.
    pub(super) fn server(&self) -> SocketAddr {
        self.server.address()
    }

    /// The address of the REST interface without a proxy.
    pub(super) fn rest(&self) -> SocketAddr {
        self.rest.address()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("patroni.log")
    }

    pub(super) fn log_tail(&self, lines: usize) -> String {
        format!("{}:\n{}", self.name, log_tail(&self.log(), lines))
    }

    /// The settings of this node, as JSON, which is valid YAML.
    fn settings(&self, shared: &Value) -> anyhow::Result<Value> {
        let user = json!({ "username": "postgres", "password": "secret" });
        let folder = self.folder.path();
        Ok(json!({
            "scope": SCOPE,
            "name": self.name,
            "restapi": {
                "listen": self.rest.address().to_string(),
                "connect_address": self.to_rest.address().to_string(),
            },
            // Without the second setting, Patroni would learn the address of etcd behind the proxy and use that.
            "etcd3": { "hosts": [self.to_etcd.address().to_string()], "use_proxies": true },
            "bootstrap": {
                "dcs": shared,
                "initdb": [{ "auth": "trust" }, { "encoding": "UTF8" }, { "locale": "C" }],
            },
            "postgresql": {
                "listen": self.server.address().to_string(),
                "connect_address": self.to_nodes.address().to_string(),
                "data_dir": self.data(),
                "bin_dir": programs::postgres(PostgresVersion::default())?.postgres.parent().context("no folder")?,
                "pgpass": folder.join("pgpass"),
                // Otherwise a copy waits up to five minutes for the next checkpoint.
                "basebackup": [{ "checkpoint": "fast" }],
                "authentication": { "superuser": user, "replication": user, "rewind": user },
                "pg_hba": [
                    "host all all 127.0.0.1/32 trust",
                    "host replication all 127.0.0.1/32 trust",
                ],
                "parameters": {
                    "unix_socket_directories": "",
                    "shared_buffers": "64MB",
                    "timezone": "UTC",
                    "log_timezone": "UTC",
                },
            },
        }))
    }

    pub(super) async fn start(&self, shared: &Value) -> anyhow::Result<()> {
        let mut patroni = self.patroni.lock().await;
        ensure!(patroni.is_none(), "the node is up already");
        let settings = self.settings(shared)?;
        std::fs::write(self.folder.path().join("patroni.yml"), settings.to_string())?;
        *patroni = Some(Child::spawn(&Launch {
            program: &on_path("patroni").context("patroni is missing")?,
            args: vec!["patroni.yml".to_owned()],
            env: vec![("LC_ALL".to_owned(), "C".to_owned())],
            folder: self.folder.path(),
            log: &self.log(),
            user: self.user.as_ref(),
            // Patroni stops PostgreSQL gracefully.
            death_signal: Signal::SIGTERM,
        })?);
        Ok(())
    }

    pub(super) async fn kill9(&self) -> anyhow::Result<()> {
        let mut patroni = self.patroni.lock().await;
        let path = self.folder.path().to_owned();
        tokio::task::spawn_blocking(move || folder::end_processes_in(&path)).await??;
        *patroni = None;
        Ok(())
    }

    /// Removes the data of a node that is down. Patroni copies it from the primary at the next start.
    pub(super) async fn remove_data(&self) -> anyhow::Result<()> {
        let data = self.data();
        if tokio::fs::try_exists(&data).await? {
            tokio::fs::remove_dir_all(&data).await?;
        }
        Ok(())
    }

    /// Signals all processes of the node.
    pub(super) async fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let path = self.folder.path().to_owned();
        tokio::task::spawn_blocking(move || folder::signal_processes_in(&path, signal)).await?;
        Ok(())
    }

    pub(super) fn cut(&self, on: bool) {
        for proxy in [&self.to_clients, &self.to_nodes, &self.to_rest, &self.to_etcd] {
            proxy.blackhole(on);
        }
    }

    pub(super) fn hold_replication(&self, on: bool) {
        self.to_nodes.blackhole(on);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Patroni would start PostgreSQL again, so all processes end at once. The next sweep ends remaining ones.
        let _ = folder::end_processes_in(self.folder.path());
    }
}
