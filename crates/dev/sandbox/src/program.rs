//! A Holdfast program with ports that it keeps over restarts.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::sync::Mutex;

use crate::http::http_get;
use crate::port::Port;
use crate::process::{Process, ProcessOptions, Ready};

const MIGRATE_LIMIT: Duration = Duration::from_mins(1);

/// An API or a worker that can be killed and started again. Dropping it ends it.
#[derive(Debug)]
pub struct Program {
    options: ProcessOptions,
    /// `None` while it is down.
    process: Mutex<Option<Process>>,
    public: Port,
    admin: Port,
    internal: Port,
}

impl Program {
    /// An API that requires no API key. It is not started.
    ///
    /// # Errors
    /// No port is free.
    pub fn api(binary: &Path, database_url: &str, redis_url: &str) -> anyhow::Result<Self> {
        Ok(Self::new(binary, "serve", database_url, redis_url)?.env("HOLDFAST_AUTH", "off"))
    }

    /// A worker. It is not started.
    ///
    /// # Errors
    /// As [`Self::api`].
    pub fn worker(binary: &Path, database_url: &str, redis_url: &str) -> anyhow::Result<Self> {
        Self::new(binary, "run", database_url, redis_url)
    }

    fn new(
        binary: &Path,
        command: &str,
        database_url: &str,
        redis_url: &str,
    ) -> anyhow::Result<Self> {
        let (public, admin, internal) = (Port::lease()?, Port::lease()?, Port::lease()?);
        let options = ProcessOptions::new(binary)
            .arg(command)
            .env("DATABASE_URL", database_url)
            .env("REDIS_URL", redis_url)
            .env("HOLDFAST_HTTP_ADDR", public.address().to_string())
            .env("HOLDFAST_METRICS_ADDR", internal.address().to_string())
            .env("HOLDFAST_ADMIN_ADDR", admin.address().to_string())
            .ready(Ready::Http(format!("http://{}/livez", internal.address())));
        Ok(Self { options, process: Mutex::new(None), public, admin, internal })
    }

    /// Sets an environment variable; the last value counts.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options = self.options.env(name, value);
        self
    }

    /// Sets environment variables.
    pub fn extend_env(&mut self, env: impl IntoIterator<Item = (String, String)>) {
        self.options.env.extend(env);
    }

    /// The address of its API.
    pub fn address(&self) -> SocketAddr {
        self.public.address()
    }

    /// The address of its admin port.
    pub fn admin(&self) -> SocketAddr {
        self.admin.address()
    }

    /// The address of its metrics and health checks.
    pub fn internal(&self) -> SocketAddr {
        self.internal.address()
    }

    /// Its process id; `None` while it is down.
    pub fn pid(&self) -> Option<u32> {
        self.process.try_lock().ok()?.as_ref().map(Process::pid)
    }

    /// Starts it. Returns when it is live; it may not be ready yet.
    ///
    /// # Errors
    /// It is up already, or does not start.
    pub async fn start(&self) -> anyhow::Result<()> {
        let mut process = self.process.lock().await;
        ensure!(process.is_none(), "it is up already");
        *process = Some(Process::start(self.options.clone()).await?);
        Ok(())
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// It is not ready within `limit`; the error contains the end of its log.
    pub async fn ready(&self, limit: Duration) -> anyhow::Result<()> {
        let (url, begun) = (format!("http://{}/readyz", self.internal()), Instant::now());
        while !http_get(&url).await.is_ok_and(|answer| answer.status == 200) {
            if begun.elapsed() > limit {
                let log = self.with(async |process| Ok(process.log_tail(20))).await?;
                bail!("a process is not ready after {limit:?}:\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Sends SIGKILL; does nothing if it is down.
    ///
    /// # Errors
    /// It does not end.
    pub async fn kill9(&self) -> anyhow::Result<()> {
        if let Some(process) = self.process.lock().await.take() {
            process.kill9().await?;
        }
        Ok(())
    }

    /// Sends SIGTERM, and waits until it has ended.
    ///
    /// # Errors
    /// It is down, has ended by itself, fails, or does not end within `limit`.
    pub async fn terminate(&self, limit: Duration) -> anyhow::Result<()> {
        let process = self.process.lock().await.take().context("it is down")?;
        if let Some(status) = process.status() {
            bail!("it has ended ({status}):\n{}", process.log_tail(20));
        }
        process.terminate()?;
        process.succeeds(limit).await
    }

    /// Calls `act` with the process.
    ///
    /// # Errors
    /// It is down, or `act` fails.
    pub async fn with<T>(
        &self,
        act: impl AsyncFnOnce(&Process) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        act(self.process.lock().await.as_ref().context("it is down")?).await
    }
}

/// Creates the tables of Holdfast in a database.
///
/// # Errors
/// The migration fails.
pub async fn migrate(api: &Path, database_url: &str) -> anyhow::Result<()> {
    let options = ProcessOptions::new(api).arg("migrate").env("DATABASE_URL", database_url);
    Process::start(options).await?.succeeds(MIGRATE_LIMIT).await
}
