//! A private Redis server, with faults.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::child::{Child, Launch, log_tail};
use crate::folder::{self, Folder, Keep};
use crate::port::{LaunchError, Port};
use crate::programs;

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(10);
const PROBE_LIMIT: Duration = Duration::from_millis(200);
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const PORT_TRIES: u32 = 10;

/// The options of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedisOptions {
    /// If data is kept, it is written to an append-only file; otherwise nothing is written.
    pub keep: Keep,
    /// More arguments, such as `["--maxmemory", "10mb"]`. They override the others.
    pub args: Vec<String>,
    /// A folder with `tls.crt`, `tls.key` and `ca.crt` for another port that uses TLS, and for the connections between
    /// servers.
    pub tls: Option<PathBuf>,
}

/// A running Redis without a password, on 127.0.0.1. Dropping it kills it and removes its folder, unless it is kept.
#[derive(Debug)]
pub struct Redis {
    /// Before the folder, so that the server ends first.
    server: Mutex<Option<Child>>,
    options: RedisOptions,
    program: PathBuf,
    port: Port,
    tls_port: Option<Port>,
    folder: Folder,
}

impl Redis {
    /// Starts a server. Returns when it answers.
    ///
    /// # Errors
    /// Redis is not installed (the error says what to type), or does not start within 30
    /// seconds (the error ends with its log).
    pub async fn start(options: RedisOptions) -> anyhow::Result<Self> {
        let mut redis = Self::prepare(options)?;
        for _ in 1..PORT_TRIES {
            match redis.launch().await {
                Ok(()) => return Ok(redis),
                Err(LaunchError::AddressInUse) => redis.port = Port::lease()?,
                Err(LaunchError::Other(error)) => return Err(error),
            }
        }
        redis.launch().await?;
        Ok(redis)
    }

    /// Prepares a server without starting it.
    fn prepare(options: RedisOptions) -> anyhow::Result<Self> {
        let program = programs::redis()?;
        let folder = Folder::open(&options.keep, "redis")?;
        let port = Port::lease()?;
        let tls_port = options.tls.is_some().then(Port::lease).transpose()?;
        let redis = Self { server: Mutex::new(None), options, program, port, tls_port, folder };
        folder::set_old_log_aside(&redis.log_path())?;
        Ok(redis)
    }

    /// `redis://127.0.0.1:PORT`. It stays the same after a restart.
    pub fn url(&self) -> String {
        format!("redis://{}", self.port.address())
    }

    /// The port on 127.0.0.1. It stays the same after a restart.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The port on which other servers and clients with TLS reach it: that with TLS if there is one.
    pub fn announced_port(&self) -> u16 {
        self.tls_port.as_ref().unwrap_or(&self.port).number()
    }

    /// The server's log.
    pub fn log_path(&self) -> PathBuf {
        self.folder.path().join("redis.log")
    }

    /// The last lines of the log.
    pub fn log_tail(&self, lines: usize) -> String {
        log_tail(&self.log_path(), lines)
    }

    /// The server's process id; `None` while it is down.
    pub fn pid(&self) -> Option<u32> {
        self.server.lock().as_ref().map(Child::pid)
    }

    /// Sends SIGKILL, and waits until the server has ended. New connections are refused.
    ///
    /// # Errors
    /// It is down already.
    pub async fn kill9(&self) -> anyhow::Result<()> {
        let child = self.server.lock().take().context("Redis is down")?;
        child.kill().await?;
        Ok(())
    }

    /// Freezes the server (SIGSTOP). Connections hang, and new ones are not refused.
    ///
    /// # Errors
    /// It is down.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.server.lock().as_ref().context("Redis is down")?.signal(Signal::SIGSTOP)
    }

    /// Ends [`Self::pause`].
    ///
    /// # Errors
    /// It is down.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.server.lock().as_ref().context("Redis is down")?.signal(Signal::SIGCONT)
    }

    /// Stops the server gracefully (SIGTERM), if it is up.
    ///
    /// # Errors
    /// It cannot be stopped even by SIGKILL.
    pub async fn shutdown(&self) -> anyhow::Result<()> {
        let child = self.server.lock().take();
        if let Some(child) = child {
            child.stop(Signal::SIGTERM, STOP_LIMIT).await?;
        }
        Ok(())
    }

    /// Starts the server again on the same port; if it is up, it is stopped gracefully first. It is empty unless its
    /// data is kept.
    ///
    /// # Errors
    /// It does not come up within 30 seconds.
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.shutdown().await?;
        self.launch().await?;
        Ok(())
    }

    /// `FLUSHALL`.
    ///
    /// # Errors
    /// It does not answer within five seconds.
    pub async fn flush(&self) -> anyhow::Result<()> {
        let answer = self.command("FLUSHALL").await?;
        if answer.trim_end() != "+OK" {
            bail!("FLUSHALL: {answer}");
        }
        Ok(())
    }

    /// Waits until the server ends by itself.
    pub async fn ended(&self) {
        while self.server.lock().as_ref().is_some_and(|child| child.status().is_none()) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Sends one inline command on a separate connection. Returns the raw answer, which may be an error of the server
    /// (`-…`).
    ///
    /// # Errors
    /// It does not answer within five seconds.
    pub async fn command(&self, command: &str) -> anyhow::Result<String> {
        let exchange = async {
            let mut stream = TcpStream::connect(self.port.address()).await?;
            stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await?;
            let mut answer = Vec::new();
            // QUIT makes the server close the connection.
            stream.take(ANSWER_BYTES_MAX as u64).read_to_end(&mut answer).await?;
            let answer = String::from_utf8_lossy(&answer).into_owned();
            Ok::<_, std::io::Error>(answer.strip_suffix("+OK\r\n").unwrap_or(&answer).to_owned())
        };
        tokio::time::timeout(ANSWER_LIMIT, exchange)
            .await
            .with_context(|| format!("Redis does not answer {command}"))?
            .with_context(|| format!("cannot send {command} to Redis"))
    }

    fn args(&self) -> Vec<String> {
        let kept = self.options.keep != Keep::Nothing;
        let mut args: Vec<String> = [
            ("--port", self.port.number().to_string()),
            ("--bind", "127.0.0.1".to_owned()),
            ("--dir", self.folder.path().display().to_string()),
            ("--save", String::new()),
            ("--appendonly", if kept { "yes" } else { "no" }.to_owned()),
            ("--daemonize", "no".to_owned()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect();
        if let (Some(tls), Some(port)) = (&self.options.tls, &self.tls_port) {
            let settings = tls_settings(tls, port.number());
            args.extend(settings.flat_map(|(name, value)| [format!("--{name}"), value]));
            args.extend(["--tls-cluster", "yes"].map(str::to_owned));
        }
        args.extend(self.options.args.iter().cloned());
        args
    }

    async fn launch(&self) -> Result<(), LaunchError> {
        let log = self.log_path();
        let log_before = std::fs::metadata(&log).map_or(0, |meta| meta.len());
        let child = Child::spawn(&Launch {
            program: &self.program,
            args: self.args(),
            env: Vec::new(),
            folder: self.folder.path(),
            log: &log,
            user: None,
            // SIGKILL also ends a paused server. An append-only file tolerates it.
            death_signal: Signal::SIGKILL,
        })?;
        // The process id in the answer distinguishes this server from another on the same port.
        let ours = format!("process_id:{}\r\n", child.pid());
        let started = Instant::now();
        loop {
            child.check_start("Redis", &log, log_before)?;
            // Another program on the port may never answer, while this server has ended.
            let probe = tokio::time::timeout(PROBE_LIMIT, self.command("INFO server")).await;
            if matches!(probe, Ok(Ok(answer)) if answer.contains(&ours))
                && self.command("PING").await.is_ok_and(|answer| answer.trim_end() == "+PONG")
            {
                break;
            }
            if started.elapsed() > START_LIMIT {
                let tail = log_tail(&log, 15);
                return Err(anyhow::anyhow!("Redis not up in {START_LIMIT:?}:\n{tail}").into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        *self.server.lock() = Some(child);
        Ok(())
    }
}

/// Settings of a server or Sentinel with a port that uses TLS.
pub(crate) fn tls_settings(
    files: &Path,
    port: u16,
) -> impl Iterator<Item = (&'static str, String)> + use<> {
    let file = |name| files.join(name).display().to_string();
    [
        ("tls-port", port.to_string()),
        ("tls-cert-file", file("tls.crt")),
        ("tls-key-file", file("tls.key")),
        ("tls-ca-cert-file", file("ca.crt")),
        ("tls-auth-clients", "no".to_owned()),
        ("tls-replication", "yes".to_owned()),
    ]
    .into_iter()
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let (Keep::In(_), Some(child)) = (&self.options.keep, self.server.get_mut()) {
            let _ = child.signal(Signal::SIGTERM);
            let _ = child.signal(Signal::SIGCONT);
            child.wait_blocking(STOP_LIMIT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_taken_in_the_meantime_is_distinguished_from_other_failures() {
        let redis = Redis::prepare(RedisOptions::default()).unwrap();
        let taken = std::net::TcpListener::bind(redis.port.address()).unwrap();
        assert!(matches!(redis.launch().await, Err(LaunchError::AddressInUse)));
        drop(taken);
        assert!(redis.launch().await.is_ok());
    }
}
