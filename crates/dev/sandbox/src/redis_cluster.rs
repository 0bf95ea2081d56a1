//! A Redis Cluster.

use std::path::Path;

use crate::port::Port;
use crate::redis::{Redis, RedisOptions};
use crate::until::until;

const SLOTS: u32 = 16_384;

/// Three primaries, each with a third of the slots, and a replica of each, on 127.0.0.1.
#[derive(Debug)]
pub struct RedisCluster {
    servers: Vec<Redis>,
    /// The reserved ports of the cluster bus.
    buses: Vec<Port>,
}

impl RedisCluster {
    /// Starts it. Returns when each server reports that the cluster works.
    ///
    /// # Errors
    /// A server does not start, or refuses a command.
    ///
    /// # Panics
    /// The servers do not find each other; see [`until`].
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(None).await
    }

    /// Starts it with TLS between the servers and to clients. `files` is a folder with `tls.crt`, `tls.key` and `ca.crt`.
    ///
    /// # Errors
    /// A server does not start, or refuses a command.
    ///
    /// # Panics
    /// The servers do not get to know each other; see [`until`].
    pub async fn start_with_tls(files: &Path) -> anyhow::Result<Self> {
        Self::start_with(Some(files)).await
    }

    async fn start_with(tls: Option<&Path>) -> anyhow::Result<Self> {
        let (mut servers, mut buses) = (Vec::new(), Vec::new());
        for _ in 0..6 {
            let bus = Port::lease()?;
            let port = bus.number().to_string();
            let args = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
            let args = args.iter().chain(&["--repl-diskless-sync-delay", "0", "--cluster-port"]);
            let args = args.chain(&[port.as_str()]).map(ToString::to_string).collect();
            let tls = tls.map(Path::to_owned);
            let options = RedisOptions { args, tls, ..RedisOptions::default() };
            servers.push(Redis::start(options).await?);
            buses.push(bus);
        }
        let cluster = Self { servers, buses };
        for (number, server) in (0_u32..).zip(&cluster.servers) {
            if let third @ 0..3 = number {
                let (from, to) = (third * SLOTS / 3, (third + 1) * SLOTS / 3 - 1);
                ok(server, &format!("CLUSTER ADDSLOTSRANGE {from} {to}")).await?;
                ok(server, &format!("CLUSTER SET-CONFIG-EPOCH {}", third + 1)).await?;
            }
        }
        for (other, bus) in cluster.servers.iter().zip(&cluster.buses).skip(1) {
            let (port, bus) = (other.announced_port(), bus.number());
            ok(&cluster.servers[0], &format!("CLUSTER MEET 127.0.0.1 {port} {bus}")).await?;
        }
        until("each server knows all", async || {
            for server in &cluster.servers {
                let nodes = server.command("CLUSTER NODES").await.map_err(|why| why.to_string())?;
                if nodes.matches("connected").count() < 6 || nodes.contains("handshake") {
                    return Err(nodes);
                }
            }
            Ok(())
        })
        .await;
        for third in 0..3 {
            let id = cluster.servers[third].command("CLUSTER MYID").await?;
            let id = id.split("\r\n").nth(1).unwrap_or_default().to_owned();
            ok(&cluster.servers[third + 3], &format!("CLUSTER REPLICATE {id}")).await?;
        }
        until("each server reports that the cluster works", async || {
            for server in &cluster.servers {
                let info = server.command("CLUSTER INFO").await.map_err(|why| why.to_string())?;
                let nodes = server.command("CLUSTER NODES").await.map_err(|why| why.to_string())?;
                if !info.contains("cluster_state:ok") || nodes.matches("slave").count() != 3 {
                    return Err(format!("{info}\n{nodes}"));
                }
            }
            for replica in &cluster.servers[3..] {
                let info = replica.command("INFO replication").await.unwrap_or_default();
                if !info.contains("master_link_status:up") {
                    return Err(info);
                }
            }
            Ok(())
        })
        .await;
        Ok(cluster)
    }

    /// `redis+cluster://…` with the three servers that were primaries at the start.
    pub fn url(&self) -> String {
        self.url_with("redis", Redis::port)
    }

    /// The same with `rediss+cluster://…`.
    pub fn tls_url(&self) -> String {
        self.url_with("rediss", Redis::announced_port)
    }

    fn url_with(&self, scheme: &str, port: fn(&Redis) -> u16) -> String {
        let host = |server| format!("127.0.0.1:{}", port(server));
        let hosts: Vec<_> = self.servers[..3].iter().map(host).collect();
        format!("{scheme}+cluster://{}", hosts.join(","))
    }

    /// The servers: three primaries, and their replicas in the same order.
    pub fn servers(&self) -> &[Redis] {
        &self.servers
    }
}

async fn ok(server: &Redis, command: &str) -> anyhow::Result<()> {
    let answer = server.command(command).await?;
    anyhow::ensure!(answer.trim_end() == "+OK", "{command}: {answer}");
    Ok(())
}
