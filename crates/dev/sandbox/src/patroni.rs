//! A PostgreSQL cluster of three nodes that Patroni manages, with one etcd, and its faults.
//!
//! | file | subject |
//! |---|---|
//! | `node` | one node: its processes, its ports, and the proxies in front of them |

mod node;

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, PgConnection, postgres::PgConnectOptions};

use self::node::Node;
use crate::{
    child::{Child, Launch},
    folder::{Folder, Keep},
    http::http_get,
    port::Port,
    process::{Process, ProcessOptions, Ready},
    programs::on_path,
};

/// The nodes of a cluster.
const NODES: usize = 3;

/// How long a primary is the primary without renewing it, in seconds. Patroni's default is 30. Patroni wants
/// `ttl >= loop_wait + 2 * retry_timeout`, and with a `retry_timeout` below 3 its requests to etcd end too early.
pub const PATRONI_TTL: u64 = 7;
const LOOP_WAIT: u64 = 1;
const RETRY_TIMEOUT: u64 = 3;

/// The time limit until a cluster is healthy again after a fault, including a new copy of a node.
const HEALTHY_LIMIT: Duration = Duration::from_mins(3);
const SWITCHOVER_LIMIT: Duration = Duration::from_mins(1);
const ASK_LIMIT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(100);

/// Whether a commit waits for a standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatroniMode {
    /// `synchronous_mode` and `synchronous_mode_strict`.
    Synchronous,
    /// Neither.
    Asynchronous,
}

/// A running cluster on 127.0.0.1. Clients and nodes reach a node only through its proxies. Dropping it ends it.
#[derive(Debug)]
pub struct Patroni {
    /// Before etcd, so that nodes end first.
    nodes: Vec<Node>,
    mode: PatroniMode,
    etcd: Process,
    etcd_port: Port,
    _peer_port: Port,
    /// For `patronictl`.
    folder: Folder,
}

impl Patroni {
    /// The missing programs, by the names of their packages in Debian.
    pub fn missing() -> Vec<&'static str> {
        let needed = [("patroni", "patroni"), ("patronictl", "patroni"), ("etcd", "etcd-server")];
        let mut missing: Vec<_> = needed
            .into_iter()
            .filter(|(program, _)| on_path(program).is_none())
            .map(|(_, package)| package)
            .collect();
        missing.dedup();
        missing
    }

    /// Starts a cluster. Returns when it is [healthy](Self::healthy).
    ///
    /// # Errors
    /// A program is missing, or the cluster does not become healthy; the error contains the end of the logs.
    pub async fn start(mode: PatroniMode) -> anyhow::Result<Self> {
        let missing = Self::missing();
        ensure!(
            missing.is_empty(),
            "not installed: {}; type: scripts/install-deps ha",
            missing.join(", ")
        );
        let (etcd_port, peer_port) = (Port::lease()?, Port::lease()?);
        let (client, peer) =
            (format!("http://{}", etcd_port.address()), format!("http://{}", peer_port.address()));
        let etcd = on_path("etcd").context("etcd is missing")?;
        let etcd = ProcessOptions::new(etcd)
            .arg("--name=etcd")
            .arg("--data-dir=data")
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster=etcd={peer}"))
            .ready(Ready::Http(format!("{client}/health")));
        let etcd = Process::start(etcd).await?;
        version_decided(&client).await?;
        let mut nodes = Vec::new();
        for number in 0..NODES {
            nodes.push(Node::prepare(number, etcd_port.address()).await?);
        }
        let folder = Folder::open(&Keep::Nothing, "patronictl")?;
        let cluster = Self { nodes, mode, etcd, etcd_port, _peer_port: peer_port, folder };
        for node in &cluster.nodes {
            node.start(&cluster.settings()).await?;
        }
        cluster.healthy().await?;
        Ok(cluster)
    }

    /// The settings that all nodes share.
    fn settings(&self) -> Value {
        let synchronous = self.mode == PatroniMode::Synchronous;
        json!({
            "ttl": PATRONI_TTL,
            "loop_wait": LOOP_WAIT,
            "retry_timeout": RETRY_TIMEOUT,
            "maximum_lag_on_failover": 16 << 20,
            "synchronous_mode": synchronous,
            "synchronous_mode_strict": synchronous,
            "postgresql": {
                "use_pg_rewind": true,
                "use_slots": true,
                "remove_data_directory_on_rewind_failure": true,
                "remove_data_directory_on_diverged_timelines": true,
                "parameters": {
                    "max_connections": 100,
                    "wal_log_hints": "on",
                    "hot_standby": "on",
                    "wal_keep_size": "128MB",
                },
            },
        })
    }

    /// The number of nodes.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// The URL of a database for programs: all nodes, and the one that accepts writes is used.
    pub fn database_url(&self, database: &str) -> String {
        let nodes: Vec<_> = self.nodes.iter().map(|node| node.clients().to_string()).collect();
        format!(
            "postgres://postgres@{}/{database}?target_session_attrs=read-write",
            nodes.join(",")
        )
    }

    /// The URL of a database on one node, without its proxy.
    pub fn direct_url(&self, node: usize, database: &str) -> String {
        self.nodes.get(node).map_or_else(String::new, |node| {
            format!("postgres://postgres@{}/{database}", node.server())
        })
    }

    /// Connects to a node without its proxy, within a short time.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn connect(&self, node: usize, database: &str) -> anyhow::Result<PgConnection> {
        let options: PgConnectOptions = self.direct_url(node, database).parse()?;
        let connection = tokio::time::timeout(ASK_LIMIT, options.connect()).await;
        Ok(connection.context("the node does not answer")??)
    }

    /// Whether a node accepts writes; `false` if it does not answer.
    pub async fn is_primary(&self, node: usize) -> bool {
        let ask = async {
            let mut connection = self.connect(node, "postgres").await.ok()?;
            let sql = "SELECT NOT pg_is_in_recovery()";
            sqlx::query_scalar::<_, bool>(sql).fetch_one(&mut connection).await.ok()
        };
        matches!(tokio::time::timeout(ASK_LIMIT, ask).await, Ok(Some(true)))
    }

    /// The node that has the leader's lock and reports it.
    pub async fn leader(&self) -> Option<usize> {
        for (number, node) in self.nodes.iter().enumerate() {
            let url = format!("http://{}/primary", node.rest());
            let answer = tokio::time::timeout(ASK_LIMIT, http_get(&url)).await;
            if matches!(answer, Ok(Ok(answer)) if answer.status == 200) {
                return Some(number);
            }
        }
        None
    }

    /// Waits until there is one primary, all other nodes follow it, and one of them is synchronous if the mode requires
    /// it. Returns the primary.
    ///
    /// # Errors
    /// This takes more than three minutes; the error contains the end of the logs.
    pub async fn healthy(&self) -> anyhow::Result<usize> {
        let wait = async {
            loop {
                if let Ok(Some(leader)) = self.healthy_leader().await {
                    return leader;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        if let Ok(leader) = tokio::time::timeout(HEALTHY_LIMIT, wait).await {
            return Ok(leader);
        }
        bail!("the cluster is not healthy after {HEALTHY_LIMIT:?}:\n{}", self.log_tails(15))
    }

    /// Copies each node anew that does not follow the primary, as `patronictl reinit` does. Returns the number of these.
    /// Patroni 3.0 does not always do it: after a cut, it can remove the data of a node whose server still runs.
    ///
    /// # Errors
    /// There is no primary, or a node cannot be stopped or started.
    pub async fn copy_broken_nodes(&self) -> anyhow::Result<usize> {
        let wait = async {
            loop {
                if let Some(leader) = self.leader().await {
                    return leader;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let leader = tokio::time::timeout(SWITCHOVER_LIMIT, wait).await;
        let leader = leader.context("there is no primary")?;
        let mut connection = self.connect(leader, "postgres").await?;
        let sql = "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'";
        let following: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut connection).await?;
        let broken = self.nodes.iter().enumerate().filter(|(number, node)| {
            *number != leader && !following.iter().any(|name| name == node.name())
        });
        let mut copied = 0;
        for (_, node) in broken {
            node.kill9().await?;
            node.remove_data().await?;
            node.start(&self.settings()).await?;
            copied += 1;
        }
        Ok(copied)
    }

    async fn healthy_leader(&self) -> anyhow::Result<Option<usize>> {
        let Some(leader) = self.leader().await else { return Ok(None) };
        let node = self.nodes.get(leader).context("no such node")?;
        let url = format!("http://{}/cluster", node.rest());
        let members = tokio::time::timeout(ASK_LIMIT, http_get(&url)).await??.json()?;
        let members = members["members"].as_array().cloned().unwrap_or_default();
        let with_role = |role| members.iter().filter(|member| member["role"] == role).count();
        let synchronous = usize::from(self.mode == PatroniMode::Synchronous);
        if members.len() != NODES
            || with_role("leader") != 1
            || with_role("sync_standby") != synchronous
        {
            return Ok(None);
        }
        let mut connection = self.connect(leader, "postgres").await?;
        // A node that is being copied streams as well, under the name `pg_basebackup`.
        let sql = "SELECT count(*), count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) \
             FROM pg_stat_replication \
             WHERE state = 'streaming' AND application_name LIKE 'node%' AND NOT pg_is_in_recovery()";
        let (streaming, waited_for): (i64, i64) =
            tokio::time::timeout(ASK_LIMIT, sqlx::query_as(sql).fetch_one(&mut connection))
                .await??;
        for other in (0..NODES).filter(|other| *other != leader) {
            let mut connection = self.connect(other, "postgres").await?;
            let ask = sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut connection);
            if !tokio::time::timeout(ASK_LIMIT, ask).await?? {
                return Ok(None);
            }
        }
        let all = usize::try_from(streaming)? == NODES - 1;
        Ok((all && usize::try_from(waited_for)? == synchronous).then_some(leader))
    }

    /// Makes a standby the primary with `patronictl switchover`.
    ///
    /// # Errors
    /// Patroni refuses, or does not complete it within a minute.
    pub async fn switchover(&self, leader: usize) -> anyhow::Result<()> {
        let config = json!({
            "scope": node::SCOPE,
            "etcd3": { "hosts": [self.etcd_port.address().to_string()] },
        });
        let path = self.folder.path().join("patronictl.yml");
        std::fs::write(&path, config.to_string())?;
        let name = self.nodes.get(leader).context("no such node")?.name();
        let arguments =
            ["-c", "patronictl.yml", "switchover", node::SCOPE, "--master", name, "--force"];
        let launch = Launch {
            program: &on_path("patronictl").context("patronictl is missing")?,
            args: arguments.map(str::to_owned).to_vec(),
            env: vec![("LC_ALL".to_owned(), "C.UTF-8".to_owned())],
            folder: self.folder.path(),
            log: &self.folder.path().join("patronictl.log"),
            user: None,
            death_signal: Signal::SIGKILL,
        };
        Child::run(&launch, SWITCHOVER_LIMIT).await
    }

    /// Kills a node's PostgreSQL and Patroni with SIGKILL, like a crash of the machine.
    ///
    /// # Errors
    /// There is no such node, or its processes do not end.
    pub async fn kill9(&self, node: usize) -> anyhow::Result<()> {
        self.node(node)?.kill9().await
    }

    /// Starts a killed node again.
    ///
    /// # Errors
    /// There is no such node, or it cannot be started.
    pub async fn restart(&self, node: usize) -> anyhow::Result<()> {
        self.node(node)?.start(&self.settings()).await
    }

    /// Freezes a node's PostgreSQL and Patroni (SIGSTOP).
    ///
    /// # Errors
    /// There is no such node.
    pub async fn pause(&self, node: usize) -> anyhow::Result<()> {
        self.node(node)?.signal(Signal::SIGSTOP).await
    }

    /// Ends [`Self::pause`].
    ///
    /// # Errors
    /// There is no such node.
    pub async fn resume(&self, node: usize) -> anyhow::Result<()> {
        self.node(node)?.signal(Signal::SIGCONT).await
    }

    /// While this is on, nothing passes between a node and its clients, the other nodes, and etcd.
    ///
    /// # Errors
    /// There is no such node.
    pub fn cut(&self, node: usize, on: bool) -> anyhow::Result<()> {
        self.node(node)?.cut(on);
        Ok(())
    }

    /// While this is on, nothing passes between a node and its standbys.
    ///
    /// # Errors
    /// There is no such node.
    pub fn hold_replication(&self, node: usize, on: bool) -> anyhow::Result<()> {
        self.node(node)?.hold_replication(on);
        Ok(())
    }

    /// The last lines of the logs of etcd and of each node.
    pub fn log_tails(&self, lines: usize) -> String {
        let nodes = self.nodes.iter().map(|node| node.log_tail(lines));
        nodes.chain([self.etcd.log_tail(lines)]).collect::<Vec<_>>().join("\n\n")
    }

    fn node(&self, node: usize) -> anyhow::Result<&Node> {
        self.nodes.get(node).context("no such node")
    }
}

/// Waits until etcd has the version of its cluster. Patroni exits with an error if it starts earlier.
async fn version_decided(client: &str) -> anyhow::Result<()> {
    for _ in 0..300 {
        if !http_get(&format!("{client}/version")).await?.body.contains("not_decided") {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("etcd has not decided the version of its cluster within 30 s")
}
