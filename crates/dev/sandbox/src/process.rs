//! A program of this workspace as a process: start, readiness, log, signals.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use tokio::net::TcpStream;

use crate::child::{Child, Launch, log_tail};
use crate::folder::{self, Folder, Keep};
use crate::http::http_get;
use crate::until::{Progress, until_or};

/// When a process counts as ready.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Ready {
    /// Immediately.
    #[default]
    AtOnce,
    /// When a TCP connection to this address is accepted.
    Tcp(SocketAddr),
    /// When a GET of this URL is answered with 200.
    Http(String),
}

/// The options of a start.
#[derive(Debug, Clone)]
pub struct ProcessOptions {
    /// The program; see [`workspace_binary`].
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment variables, in addition to those of this process.
    pub env: Vec<(String, String)>,
    /// Files that are written into its folder before it starts, by name.
    pub files: Vec<(String, String)>,
    /// When it counts as ready.
    pub ready: Ready,
    /// The longest time until it is ready; 30 seconds by default.
    pub ready_limit: Duration,
    /// The folder for its log, which is also its working directory.
    pub keep: Keep,
}

impl ProcessOptions {
    /// Starts `program` without arguments; it is ready immediately.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            files: Vec::new(),
            ready: Ready::AtOnce,
            ready_limit: Duration::from_secs(30),
            keep: Keep::Nothing,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Adds a file to its folder, which is its working directory.
    pub fn file(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.files.push((name.into(), text.into()));
        self
    }

    /// Sets the longest time until it is ready.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.ready_limit = limit;
        self
    }

    /// Sets when it counts as ready.
    pub fn ready(mut self, ready: Ready) -> Self {
        self.ready = ready;
        self
    }
}

/// A process. Dropping it kills it and removes its folder, unless it is kept.
#[derive(Debug)]
pub struct Process {
    /// Before the folder, so that the process ends first.
    child: Child,
    log: PathBuf,
    /// Held for its drop.
    _folder: Folder,
}

impl Process {
    /// Starts the process. Returns when it is ready. stdout and stderr go to [`Self::log_path`].
    ///
    /// # Errors
    /// The binary is missing, the process ends before it is ready, or it is not ready within the limit. The last two
    /// errors contain the end of the log.
    pub async fn start(options: ProcessOptions) -> anyhow::Result<Self> {
        let name = options.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !options.program.is_file() {
            bail!("{} is missing; build it first", options.program.display());
        }
        let program = options.program.canonicalize()?;
        let folder = Folder::open(&options.keep, &name)?;
        let log = folder.path().join(format!("{name}.log"));
        folder::set_old_log_aside(&log)?;
        for (file, text) in &options.files {
            let path = folder.path().join(file);
            path.parent()
                .map_or(Ok(()), std::fs::create_dir_all)
                .and_then(|()| std::fs::write(&path, text))
                .with_context(|| format!("cannot write {file}"))?;
        }
        let child = Child::spawn(&Launch {
            program: &program,
            args: options.args,
            env: options.env,
            folder: folder.path(),
            log: &log,
            user: None,
            death_signal: Signal::SIGKILL,
        })?;
        let process = Self { child, log, _folder: folder };
        let started = Instant::now();
        while !is_ready(&options.ready).await {
            if let Some(status) = process.child.status() {
                bail!("{name} ended before it was ready ({status}):\n{}", process.log_tail(20));
            }
            if started.elapsed() > options.ready_limit {
                let limit = options.ready_limit;
                bail!("{name} is not ready after {limit:?}:\n{}", process.log_tail(20));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(process)
    }

    /// The process id. When the process has ended, another process may have it.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// The exit status, if it has ended.
    pub fn status(&self) -> Option<ExitStatus> {
        self.child.status()
    }

    /// The file with its stdout and stderr.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Its log so far.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        let bytes = std::fs::read(&self.log).context("cannot read the log")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        log_tail(&self.log, lines)
    }

    /// Like [`until`](crate::until). If it fails, it shows the end of the log.
    ///
    /// # Panics
    /// As [`until`](crate::until).
    pub async fn until<P: Progress>(
        &self,
        what: &str,
        condition: impl AsyncFnMut() -> P,
    ) -> P::Value {
        until_or(what, condition, || self.log_tail(30)).await
    }

    /// Waits for a line of the log that contains all of `words`. Returns the line.
    ///
    /// # Panics
    /// The process ends without such a line; otherwise like [`until`](crate::until).
    pub async fn logs(&self, words: &[&str]) -> String {
        let what = format!("a log line with {words:?}");
        self.until(&what, async || {
            // Read before the log, so that the last lines are seen.
            let ended = self.status();
            let log = self.log().unwrap_or_default();
            let line = log.lines().find(|line| words.iter().all(|words| line.contains(words)));
            assert!(line.is_some() || ended.is_none(), "{ended:?} without {what}:\n{log}");
            line.map(str::to_owned)
        })
        .await
    }

    /// Waits for the log line `started`, and returns it.
    ///
    /// # Panics
    /// As [`Self::logs`].
    pub async fn started(&self) -> serde_json::Value {
        serde_json::from_str(&self.logs(&["\"message\":\"started\""]).await).unwrap_or_default()
    }

    /// Sends SIGTERM, without waiting.
    ///
    /// # Errors
    /// The signal cannot be sent. It is not an error if the process has ended.
    pub fn terminate(&self) -> anyhow::Result<()> {
        self.child.signal(Signal::SIGTERM)
    }

    /// Freezes it (SIGSTOP).
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.child.signal(Signal::SIGSTOP)
    }

    /// Ends [`Self::pause`].
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.child.signal(Signal::SIGCONT)
    }

    /// Sends SIGKILL, and waits until the process has ended.
    ///
    /// # Errors
    /// The process does not end.
    pub async fn kill9(&self) -> anyhow::Result<ExitStatus> {
        self.child.kill().await
    }

    /// Sends SIGTERM, and SIGKILL if the process has not ended within `limit`. Returns the exit status.
    ///
    /// # Errors
    /// The process does not end.
    pub async fn stop(&self, limit: Duration) -> anyhow::Result<ExitStatus> {
        self.child.stop(Signal::SIGTERM, limit).await
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// It fails, or does not end within `limit`; the error ends with its log.
    pub async fn succeeds(&self, limit: Duration) -> anyhow::Result<()> {
        let name = self.log.file_stem().unwrap_or_default().display();
        match self.wait(limit).await {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("{name} failed ({status}):\n{}", self.log_tail(20)),
            None => bail!("{name} has not ended after {limit:?}:\n{}", self.log_tail(20)),
        }
    }

    /// Waits until the process ends; `None` if this takes longer than `limit`. Cancel safe.
    pub async fn wait(&self, limit: Duration) -> Option<ExitStatus> {
        self.child.wait(limit).await
    }
}

async fn is_ready(ready: &Ready) -> bool {
    const TRY_LIMIT: Duration = Duration::from_secs(2);
    match ready {
        Ready::AtOnce => true,
        Ready::Tcp(address) => {
            matches!(tokio::time::timeout(TRY_LIMIT, TcpStream::connect(address)).await, Ok(Ok(_)))
        }
        Ready::Http(url) => {
            let answer = tokio::time::timeout(TRY_LIMIT, http_get(url)).await;
            matches!(answer, Ok(Ok(answer)) if answer.status == 200)
        }
    }
}

/// The path of a program of this workspace, such as `holdfast-api`: beside the running program, or above the `deps`
/// folder of a running test.
///
/// # Errors
/// The program is not built. The error says what to type. (For a test, cargo builds only the programs of the test's own
/// crate.)
pub fn workspace_binary(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where we run from")?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not built; type: cargo build --bin {name}"))
}
