//! A private PostgreSQL cluster: start, faults.

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
use crate::programs::{self, PostgresPrograms};

/// Crash recovery of a kept cluster is in it.
const START_LIMIT: Duration = Duration::from_mins(2);
const STOP_LIMIT: Duration = Duration::from_secs(20);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const PORT_TRIES: u32 = 10;

/// How a cluster is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresOptions {
    /// `true`: a commit is on the disk before it is confirmed, as in production. `false` (the
    /// default, for tests): no fsync; survives `kill9`, not a power cut.
    pub durable: bool,
    /// `max_connections`, 200 by default.
    pub max_connections: u32,
    /// Where the data goes; a fresh folder, removed at the end, by default.
    pub keep: Keep,
    /// More settings, as in `postgresql.conf`; they win over the ones above.
    pub settings: Vec<(String, String)>,
    /// Set in its environment.
    pub env: Vec<(String, String)>,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            durable: false,
            max_connections: 200,
            keep: Keep::Nothing,
            settings: Vec::new(),
            env: Vec::new(),
        }
    }
}

/// A running cluster with the superuser `postgres` and no passwords, on 127.0.0.1 only.
///
/// Dropping it stops it and removes its folder (unless kept); this blocks for some milliseconds.
#[derive(Debug)]
pub struct Postgres {
    /// Before the folder: the server ends first.
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
    /// Starts a cluster and returns when it answers a query.
    ///
    /// # Errors
    /// When PostgreSQL is not installed (the error says what to type), or does not start within
    /// two minutes (the error ends with its log).
    pub async fn start(options: PostgresOptions) -> anyhow::Result<Self> {
        Self::prepare(options).await?.launched().await
    }

    /// Starts what was prepared.
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

    /// All but the start.
    async fn prepare(options: PostgresOptions) -> anyhow::Result<Self> {
        let (programs, user) = (programs::postgres()?, programs::server_user()?);
        let folder = Folder::open(&options.keep, "postgres")?;
        let data = folder.path().join("data");
        if data.exists() {
            check_version(&data, programs.major)?;
        } else {
            // Only a whole copy gets the name; one that was cut short makes room.
            let copy = folder.path().join("data.new");
            if copy.exists() {
                std::fs::remove_dir_all(&copy)?;
            }
            initdb::initialise(programs, user.as_ref(), &copy, folder.path()).await?;
            std::fs::rename(&copy, &data)?;
        }
        Self::prepared(options, folder)
    }

    /// One whose data is in `folder`.
    fn prepared(options: PostgresOptions, folder: Folder) -> anyhow::Result<Self> {
        let postgres = Self {
            server: Mutex::new(None),
            templates: Mutex::default(),
            databases: AtomicU32::new(0),
            options,
            programs: programs::postgres()?,
            user: programs::server_user()?,
            port: Port::lease()?,
            folder,
        };
        folder::set_old_log_aside(&postgres.log_path())?;
        Ok(postgres)
    }

    /// The URL of the database `postgres`, which tests better leave alone.
    pub fn url(&self) -> String {
        self.database_url("postgres")
    }

    /// The URL of a database of this cluster.
    pub fn database_url(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}", self.port.address())
    }

    /// The port on 127.0.0.1, the same after every restart.
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

    /// The version, such as 15.
    pub fn major(&self) -> u32 {
        self.programs.major
    }

    /// The postmaster's process id, `None` while it is down.
    pub async fn pid(&self) -> Option<u32> {
        self.server.lock().await.as_ref().map(Child::pid)
    }

    /// Crashes the whole server, backends included, as a crash of the machine's memory would:
    /// SIGKILL, no farewell to any client. Returns when all of it is gone.
    ///
    /// # Errors
    /// When it is down already.
    pub async fn kill9(&self) -> anyhow::Result<()> {
        let mut server = self.server.lock().await;
        let child = running(&server)?;
        // Stopped first, so that no backend is born between the listing and the killing.
        child.signal(Signal::SIGSTOP)?;
        let backends = children_of(child.pid());
        for backend in backends {
            let _ = kill(backend, Signal::SIGKILL);
        }
        child.kill().await?;
        *server = None;
        Ok(())
    }

    /// Freezes the whole server, backends included (SIGSTOP): connections hang, none is refused.
    ///
    /// # Errors
    /// When it is down.
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
    /// When it is down.
    pub async fn resume(&self) -> anyhow::Result<()> {
        let server = self.server.lock().await;
        let child = running(&server)?;
        for backend in children_of(child.pid()) {
            let _ = kill(backend, Signal::SIGCONT);
        }
        child.signal(Signal::SIGCONT)
    }

    /// Stops it in order (a "fast" shutdown: clients are sent away, data is written out) if it is
    /// up, and leaves it down.
    ///
    /// # Errors
    /// When it cannot be stopped even by SIGKILL.
    pub async fn shutdown(&self) -> anyhow::Result<()> {
        let mut server = self.server.lock().await;
        if let Some(child) = server.as_ref() {
            stop_children_pause(child);
            child.stop(Signal::SIGINT, STOP_LIMIT).await?;
        }
        *server = None;
        Ok(())
    }

    /// Starts it again on the same port and data, after an orderly shutdown if it is still up.
    ///
    /// # Errors
    /// When it does not come up within two minutes.
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.shutdown().await?;
        self.launch().await?;
        Ok(())
    }

    /// Waits until it ends by itself; it does not, unless something is wrong.
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
            // TCP is enough, and a path in a deep TMPDIR can be too long for a socket.
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
        // The folder is locked by us and nothing works in it from here on, so a pid file is that of
        // a dead server, whose process id may by now be somebody else's and would stop the start.
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
        // Stored at once: a start that is cancelled or fails is still ended in order by the drop.
        let child = server.insert(Child::spawn(&Launch {
            program: &self.programs.postgres,
            args,
            env,
            folder: self.folder.path(),
            log: &log,
            user: self.user.as_ref(),
            // "Immediate" shutdown: it ends its own children and frees its shared memory.
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
            // Kept data deserves an orderly end; the rest is thrown away anyhow.
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

/// Kept data that this version cannot read is left alone.
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
