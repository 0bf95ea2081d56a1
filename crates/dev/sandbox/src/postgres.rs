//! A private PostgreSQL cluster, with faults.

mod databases;
mod pid_file;
mod standby;

use std::collections::HashMap;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::User;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::{Mutex, MutexGuard};

use crate::child::{Child, Launch, children_of, log_tail};
use crate::folder::{self, Folder, Keep};
use crate::initdb;
use crate::port::{LaunchError, Port};
use crate::programs::{self, PostgresPrograms, PostgresVersion};

/// Includes crash recovery of a kept cluster.
const START_LIMIT: Duration = Duration::from_mins(2);
const STOP_LIMIT: Duration = Duration::from_secs(20);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const PORT_TRIES: u32 = 10;

/// The options of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresOptions {
    /// `true`: a commit is on disk before it is confirmed, as in production. `false` (the default, for tests): without
    /// fsync; the data survives `kill9` but not a power failure.
    pub durable: bool,
    /// `max_connections`, 200 by default.
    pub max_connections: u32,
    /// The folder of the data; by default a new folder, which is removed at the end.
    pub keep: Keep,
    /// More settings, as in `postgresql.conf`. They override the settings above.
    pub settings: Vec<(String, String)>,
    /// Environment variables of the server.
    pub env: Vec<(String, String)>,
    pub version: PostgresVersion,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            durable: false,
            max_connections: 200,
            keep: Keep::Nothing,
            settings: Vec::new(),
            env: Vec::new(),
            version: PostgresVersion::default(),
        }
    }
}

/// A running cluster with the superuser `postgres` and no passwords, on 127.0.0.1 only.
///
/// Dropping it stops it and removes its folder, unless it is kept. This blocks for some milliseconds.
#[derive(Debug)]
pub struct Postgres {
    /// Before the folder, so that the server ends first.
    server: Mutex<Option<Child>>,
    templates: Mutex<HashMap<String, String>>,
    databases: AtomicU32,
    options: PostgresOptions,
    programs: &'static PostgresPrograms,
    user: Option<User>,
    port: Port,
    folder: Folder,
}

impl Postgres {
    /// Starts a cluster. Returns when it answers queries.
    ///
    /// # Errors
    /// PostgreSQL is not installed (the error says what to type), or does not start within
    /// two minutes (the error ends with its log).
    pub async fn start(options: PostgresOptions) -> anyhow::Result<Self> {
        Self::prepare(options).await?.launched().await
    }

    /// Starts the prepared cluster.
    async fn launched(mut self) -> anyhow::Result<Self> {
        for _ in 1..PORT_TRIES {
            match self.launch().await {
                Ok(()) => return Ok(self),
                Err(LaunchError::AddressInUse) => self.port = Port::lease()?,
                Err(LaunchError::Other(error)) => return Err(error),
            }
        }
        self.launch().await?;
        Ok(self)
    }

    /// Prepares a cluster without starting it.
    async fn prepare(options: PostgresOptions) -> anyhow::Result<Self> {
        let (programs, user) = (programs::postgres(options.version)?, programs::server_user()?);
        let folder = Folder::open(&options.keep, "postgres")?;
        let data = folder.path().join("data");
        if data.exists() {
            check_version(&data, programs.major)?;
        } else {
            // Only a complete copy gets the final name. An interrupted copy is removed.
            let copy = folder.path().join("data.new");
            if copy.exists() {
                std::fs::remove_dir_all(&copy)?;
            }
            initdb::initialise(programs, user.as_ref(), &copy, folder.path()).await?;
            std::fs::rename(&copy, &data)?;
        }
        Self::prepared(options, folder)
    }

    /// A cluster with its data in `folder`.
    fn prepared(options: PostgresOptions, folder: Folder) -> anyhow::Result<Self> {
        let postgres = Self {
            server: Mutex::new(None),
            templates: Mutex::default(),
            databases: AtomicU32::new(0),
            programs: programs::postgres(options.version)?,
            options,
            user: programs::server_user()?,
            port: Port::lease()?,
            folder,
        };
        folder::set_old_log_aside(&postgres.log_path())?;
        Ok(postgres)
    }

    /// The URL of the database `postgres`, which tests should not change.
    pub fn url(&self) -> String {
        self.database_url("postgres")
    }

    /// The URL of a database of this cluster.
    pub fn database_url(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}", self.port.address())
    }

    /// The port on 127.0.0.1. It stays the same after a restart.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The server's log.
    pub fn log_path(&self) -> PathBuf {
        self.folder.path().join("postgres.log")
    }

    /// The last lines of the log.
    pub fn log_tail(&self, lines: usize) -> String {
        log_tail(&self.log_path(), lines)
    }

    /// The major version, such as 15.
    pub fn major(&self) -> u32 {
        self.programs.major
    }

    /// The postmaster's process id; `None` while the server is down.
    pub async fn pid(&self) -> Option<u32> {
        self.server.lock().await.as_ref().map(Child::pid)
    }

    /// Kills the whole server, backends included, with SIGKILL, like a crash of the machine. Returns when all processes
    /// have ended.
    ///
    /// # Errors
    /// It is down already.
    pub async fn kill9(&self) -> anyhow::Result<()> {
        let mut server = self.server.lock().await;
        let child = running(&server)?;
        // The postmaster is stopped first, so that it starts no backend in the meantime.
        child.signal(Signal::SIGSTOP)?;
        let backends = children_of(child.pid());
        for backend in backends {
            let _ = kill(backend, Signal::SIGKILL);
        }
        child.kill().await?;
        *server = None;
        Ok(())
    }

    /// Freezes the whole server, backends included (SIGSTOP). Connections hang, and new ones are not refused.
    ///
    /// # Errors
    /// It is down.
    pub async fn pause(&self) -> anyhow::Result<()> {
        let server = self.server.lock().await;
        let child = running(&server)?;
        child.signal(Signal::SIGSTOP)?;
        for backend in children_of(child.pid()) {
            let _ = kill(backend, Signal::SIGSTOP);
        }
        Ok(())
    }

    /// Ends [`Self::pause`].
    ///
    /// # Errors
    /// It is down.
    pub async fn resume(&self) -> anyhow::Result<()> {
        let server = self.server.lock().await;
        let child = running(&server)?;
        for backend in children_of(child.pid()) {
            let _ = kill(backend, Signal::SIGCONT);
        }
        child.signal(Signal::SIGCONT)
    }

    /// Stops the server gracefully, if it is up (a "fast" shutdown: clients are disconnected, and data is written to
    /// disk).
    ///
    /// # Errors
    /// It cannot be stopped even by SIGKILL.
    pub async fn shutdown(&self) -> anyhow::Result<()> {
        let mut server = self.server.lock().await;
        if let Some(child) = server.as_ref() {
            stop_children_pause(child);
            child.stop(Signal::SIGINT, STOP_LIMIT).await?;
        }
        *server = None;
        Ok(())
    }

    /// Starts the server again with the same port and data. If it is up, it is stopped gracefully first.
    ///
    /// # Errors
    /// It does not come up within two minutes.
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.shutdown().await?;
        self.launch().await?;
        Ok(())
    }

    /// Waits until the server ends by itself.
    pub async fn ended(&self) {
        loop {
            let ended = self.server.lock().await.as_ref().is_none_or(|it| it.status().is_some());
            if ended {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn settings(&self) -> Vec<(String, String)> {
        let on_off = |on: bool| if on { "on" } else { "off" }.to_owned();
        let mut settings: Vec<(String, String)> = [
            ("port", self.port.number().to_string()),
            ("listen_addresses", "127.0.0.1".to_owned()),
            // TCP is enough, and in a deep TMPDIR, the path of a socket can be too long.
            ("unix_socket_directories", String::new()),
            ("max_connections", self.options.max_connections.to_string()),
            ("fsync", on_off(self.options.durable)),
            ("synchronous_commit", on_off(self.options.durable)),
            ("full_page_writes", on_off(self.options.durable)),
            ("timezone", "UTC".to_owned()),
            ("log_timezone", "UTC".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        settings.extend(self.options.settings.iter().cloned());
        settings
    }

    async fn launch(&self) -> Result<(), LaunchError> {
        let mut server = self.server.lock().await;
        let data = self.folder.path().join("data");
        let pid_path = data.join("postmaster.pid");
        // The folder is locked, and no process uses it. So a pid file belongs to a server that has ended. Another
        // process may have its process id now, and PostgreSQL would refuse to start.
        let path = self.folder.path().to_owned();
        tokio::task::spawn_blocking(move || folder::end_processes_in(&path))
            .await
            .context("cannot look for leftover processes")??;
        pid_file::remove_leftovers(&pid_path);
        if let Some(user) = &self.user {
            chown(&data, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .context("cannot give the data folder to PostgreSQL's user")?;
        }
        let mut args = vec!["-D".to_owned(), data.display().to_string()];
        for (name, value) in self.settings() {
            args.extend(["-c".to_owned(), format!("{name}={value}")]);
        }
        let log = self.log_path();
        let log_before = std::fs::metadata(&log).map_or(0, |meta| meta.len());
        let mut env = self.options.env.clone();
        env.push(("LC_ALL".to_owned(), "C".to_owned()));
        // Stored at once, so that a drop also stops a server whose start was cancelled or failed.
        let child = server.insert(Child::spawn(&Launch {
            program: &self.programs.postgres,
            args,
            env,
            folder: self.folder.path(),
            log: &log,
            user: self.user.as_ref(),
            // An "immediate" shutdown, which ends all child processes and frees the shared memory.
            death_signal: Signal::SIGQUIT,
        })?);
        let started = Instant::now();
        loop {
            child.check_start("PostgreSQL", &log, log_before)?;
            if pid_file::is_ready(&pid_path, child.pid()) {
                break;
            }
            if started.elapsed() > START_LIMIT {
                let tail = log_tail(&log, 15);
                return Err(anyhow::anyhow!("PostgreSQL not up in {START_LIMIT:?}:\n{tail}").into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let ask = async {
            let mut connection = PgConnection::connect(&self.url()).await?;
            connection.ping().await?;
            connection.close().await
        };
        tokio::time::timeout(CONNECT_LIMIT, ask)
            .await
            .context("PostgreSQL does not answer")?
            .context("cannot connect to PostgreSQL")?;
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(child) = self.server.get_mut().take() {
            stop_children_pause(&child);
            // Kept data requires a graceful shutdown.
            let (signal, limit) = match self.options.keep {
                Keep::In(_) => (Signal::SIGINT, STOP_LIMIT),
                Keep::Nothing => (Signal::SIGQUIT, Duration::from_secs(6)),
            };
            let _ = child.signal(signal);
            let _ = child.signal(Signal::SIGCONT);
            child.wait_blocking(limit);
        }
        pid_file::remove_leftovers(&self.folder.path().join("data/postmaster.pid"));
    }
}

/// Data that this version cannot read is not touched.
fn check_version(data: &Path, major: u32) -> anyhow::Result<()> {
    let written_by = std::fs::read_to_string(data.join("PG_VERSION"))
        .with_context(|| format!("{} is no PostgreSQL data folder", data.display()))?;
    let written_by = written_by.trim();
    if written_by != major.to_string() {
        bail!(
            "{} was written by PostgreSQL {written_by}, and {major} is installed: \
             move the folder away",
            data.display()
        );
    }
    Ok(())
}

fn running<'a>(server: &'a MutexGuard<'_, Option<Child>>) -> anyhow::Result<&'a Child> {
    server.as_ref().filter(|child| child.status().is_none()).context("PostgreSQL is down")
}

fn stop_children_pause(child: &Child) {
    if child.status().is_none() {
        for backend in children_of(child.pid()) {
            let _ = kill(backend, Signal::SIGCONT);
        }
    }
}

#[cfg(test)]
mod tests;
