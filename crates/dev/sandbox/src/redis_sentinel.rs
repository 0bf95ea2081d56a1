//! A Redis with replicas and Sentinels.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::port::Port;
use crate::process::{Process, ProcessOptions, Ready};
use crate::programs;
use crate::redis::{Redis, RedisOptions, tls_settings};
use crate::until::until;

/// The name of the service that the Sentinels watch.
const SERVICE: &str = "orders";
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// A server that does not answer for this long counts as down.
const DOWN_AFTER: Duration = Duration::from_millis(800);

/// A primary, two replicas and three Sentinels on 127.0.0.1, without passwords unless the options set one.
#[derive(Debug)]
pub struct RedisSentinels {
    servers: Vec<Redis>,
    sentinels: Vec<(Process, Port)>,
    /// Ports of the Sentinels that use TLS.
    tls_ports: Vec<Port>,
    service: String,
}

impl RedisSentinels {
    /// Starts them. Returns when each Sentinel knows the replicas and the other Sentinels. `args` are additional
    /// arguments of each server, and `lines` additional lines of the configuration of each Sentinel.
    ///
    /// # Errors
    /// One of them does not start.
    ///
    /// # Panics
    /// They do not find each other; see [`until`].
    pub async fn start(args: &[&str], lines: &str) -> anyhow::Result<Self> {
        Self::start_with(args, lines, None).await
    }

    /// Starts them with TLS between all of them and to clients. `files` is a folder with `tls.crt`, `tls.key` and `ca.crt`.
    ///
    /// # Errors
    /// One of them does not start.
    pub async fn start_with_tls(files: &Path) -> anyhow::Result<Self> {
        Self::start_with(&[], "", Some(files)).await
    }

    async fn start_with(args: &[&str], lines: &str, tls: Option<&Path>) -> anyhow::Result<Self> {
        // A primary answers a replica at once, and a replica reports often.
        let own = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"];
        let options = |more: &[&str]| RedisOptions {
            args: own.iter().chain(args).chain(more).map(ToString::to_string).collect(),
            tls: tls.map(Path::to_owned),
            ..RedisOptions::default()
        };
        let mut servers = vec![Redis::start(options(&[])).await?];
        let primary = servers[0].announced_port();
        for _ in 0..2 {
            let of = format!("127.0.0.1 {primary}");
            servers.push(Redis::start(options(&["--replicaof", &of])).await?);
        }
        let (mut sentinels, mut tls_ports) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let port = Port::lease()?;
            let down = DOWN_AFTER.as_millis();
            let mut configuration = format!(
                "port {}\nbind 127.0.0.1\nsentinel monitor {SERVICE} 127.0.0.1 {primary} 2\n\
                 sentinel down-after-milliseconds {SERVICE} {down}\n\
                 sentinel failover-timeout {SERVICE} 4000\nsentinel parallel-syncs {SERVICE} 2\n{lines}\n",
                port.number(),
            );
            if let Some(files) = tls {
                let port = Port::lease()?;
                for (name, value) in tls_settings(files, port.number()) {
                    writeln!(configuration, "{name} {value}")?;
                }
                tls_ports.push(port);
            }
            // The program is a link, and its name determines what it does.
            let env = programs::on_path("env").context("there is no program env")?;
            let options = ProcessOptions::new(env)
                .file("sentinel.conf", configuration)
                .arg(programs::redis()?.display().to_string())
                .arg("sentinel.conf")
                .arg("--sentinel")
                .ready(Ready::Tcp(port.address()));
            sentinels.push((Process::start(options).await?, port));
        }
        Ok(Self { servers, sentinels, tls_ports, service: SERVICE.to_owned() })
    }

    /// Waits until each Sentinel knows the others and both replicas, so that it can fail over. `auth` is a command that
    /// is sent to a Sentinel first, such as `AUTH secret`; it may be empty.
    ///
    /// # Panics
    /// It takes too long; see [`until`].
    pub async fn until_complete(&self, auth: &str) {
        until("the Sentinels know each other and the replicas", async || {
            for (_, port) in &self.sentinels {
                let command = format!("{auth}\r\nSENTINEL MASTER {SERVICE}");
                let answer = ask(port.address(), &command).await;
                let answer = answer.map_err(|error| error.to_string())?;
                let words: Vec<&str> = answer.split("\r\n").collect();
                let of = |name: &str| {
                    let at = words.iter().position(|word| *word == name)?;
                    words.get(at + 2)?.parse::<u32>().ok()
                };
                if of("num-slaves") != Some(2) || of("num-other-sentinels") != Some(2) {
                    return Err(format!("{:?} {:?}", of("num-slaves"), of("num-other-sentinels")));
                }
            }
            Ok(())
        })
        .await;
    }

    /// `redis+sentinel://…/service`.
    pub fn url(&self) -> String {
        format!("redis+sentinel://{}/{}", self.hosts().join(","), self.service)
    }

    /// `rediss+sentinel://…/service`.
    pub fn tls_url(&self) -> String {
        let hosts: Vec<_> = self.tls_ports.iter().map(|port| port.address().to_string()).collect();
        format!("rediss+sentinel://{}/{}", hosts.join(","), self.service)
    }

    /// The addresses of the Sentinels.
    pub fn hosts(&self) -> Vec<String> {
        self.sentinels.iter().map(|(_, port)| port.address().to_string()).collect()
    }

    pub fn sentinels(&self) -> impl Iterator<Item = &Process> {
        self.sentinels.iter().map(|(process, _)| process)
    }

    /// The servers; the first one was the primary at the start.
    pub fn servers(&self) -> &[Redis] {
        &self.servers
    }

    /// The server that the Sentinels call the primary.
    ///
    /// # Errors
    /// No Sentinel answers, or none knows it.
    pub async fn primary(&self) -> anyhow::Result<&Redis> {
        self.primary_as("").await
    }

    /// The same, after a command such as `AUTH secret`.
    ///
    /// # Errors
    /// No Sentinel answers, or none knows it.
    pub async fn primary_as(&self, auth: &str) -> anyhow::Result<&Redis> {
        for (_, port) in &self.sentinels {
            let command = format!("{auth}\r\nSENTINEL GET-MASTER-ADDR-BY-NAME {SERVICE}");
            let Ok(answer) = ask(port.address(), &command).await else { continue };
            let found = self.servers.iter().find(|server| {
                let port = server.announced_port().to_string();
                answer.split("\r\n").any(|word| word == port)
            });
            if let Some(server) = found {
                return Ok(server);
            }
        }
        anyhow::bail!("no Sentinel knows the primary")
    }

    /// Replaces the primary with `SENTINEL FAILOVER`.
    ///
    /// # Errors
    /// The first Sentinel refuses it.
    pub async fn fail_over(&self) -> anyhow::Result<()> {
        let (_, port) = self.sentinels.first().context("no Sentinel")?;
        let answer = ask(port.address(), &format!("SENTINEL FAILOVER {SERVICE}")).await?;
        anyhow::ensure!(answer.trim_end() == "+OK", "SENTINEL FAILOVER: {answer}");
        Ok(())
    }
}

/// Sends inline commands to a Sentinel, and returns the raw answers.
async fn ask(address: SocketAddr, commands: &str) -> anyhow::Result<String> {
    // A Sentinel does not support QUIT.
    const END: &str = "+PONG\r\n";
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("{commands}\r\nPING\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(END.as_bytes()) && stream.read_buf(&mut answer).await? > 0 {}
        let answer = String::from_utf8_lossy(&answer).into_owned();
        Ok::<_, std::io::Error>(answer.trim_end_matches(END).to_owned())
    };
    let answer = tokio::time::timeout(ANSWER_LIMIT, exchange).await;
    Ok(answer.context("the Sentinel does not answer")??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_killed_primary_is_replaced() {
        let group = RedisSentinels::start(&[], "").await.unwrap();
        group.until_complete("").await;
        let first = group.primary().await.unwrap().port();
        group.servers()[0].kill9().await.unwrap();
        until("another server is the primary", async || {
            group.primary().await.is_ok_and(|now| now.port() != first)
        })
        .await;
    }
}
