//! One of our own binaries as a process: start, wait until ready, log, signals.

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

/// When a process counts as started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Ready {
    /// At once.
    #[default]
    AtOnce,
    /// When a TCP connection to this address is accepted.
    Tcp(SocketAddr),
    /// When a GET of this URL is answered with 200.
    Http(String),
}

/// What to start, and how.
#[derive(Debug, Clone)]
pub struct ProcessOptions {
    /// The binary; see [`workspace_binary`].
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Set on top of our own environment.
    pub env: Vec<(String, String)>,
    /// Files that are written into its folder before it starts, by name.
    pub files: Vec<(String, String)>,
    /// When it counts as started.
    pub ready: Ready,
    /// How long that may take, 30 seconds by default.
    pub ready_limit: Duration,
    /// The folder for its log, which is also its working directory.
    pub keep: Keep,
}

impl ProcessOptions {
    /// Starts `program` without arguments; ready at once.
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

    /// Sets how long the start may take.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.ready_limit = limit;
        self
    }

    /// Sets when it counts as started.
    pub fn ready(mut self, ready: Ready) -> Self {
        self.ready = ready;
        self
    }
}

/// A process of ours. Dropping it kills it and removes its folder (unless kept).
#[derive(Debug)]
pub struct Process {
    /// Before the folder: the process ends first.
    child: Child,
    log: PathBuf,
    /// Held, not read.
    _folder: Folder,
}

impl Process {
    /// Starts it and returns when it is ready. stdout and stderr go to [`Self::log_path`].
    ///
    /// # Errors
    /// When the binary is missing, ends before it is ready, or is not ready within the limit; the
    /// last two end with its log.
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

    /// The process id; that of a stranger once it has ended.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// How it ended, if it has.
    pub fn status(&self) -> Option<ExitStatus> {
        self.child.status()
    }

    /// Where its stdout and stderr go.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// All it has written so far.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        let bytes = std::fs::read(&self.log).context("cannot read the log")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The last lines it has written.
    pub fn log_tail(&self, lines: usize) -> String {
        log_tail(&self.log, lines)
    }

    /// As [`until`](crate::until), with the end of the log where it fails.
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

    /// Waits for a line of the log that contains all of `words`, and returns it.
    ///
    /// # Panics
    /// When the process ends without one; else as [`until`](crate::until).
    pub async fn logs(&self, words: &[&str]) -> String {
        let what = format!("a log line with {words:?}");
        self.until(&what, async || {
            // Before the log: what it writes last counts.
            let ended = self.status();
            let log = self.log().unwrap_or_default();
            let line = log.lines().find(|line| words.iter().all(|words| line.contains(words)));
            assert!(line.is_some() || ended.is_none(), "{ended:?} without {what}:\n{log}");
            line.map(str::to_owned)
        })
        .await
    }

    /// Waits for the log line in which the program says that it has started, and returns that.
    ///
    /// # Panics
    /// As [`Self::logs`].
    pub async fn started(&self) -> serde_json::Value {
        serde_json::from_str(&self.logs(&["\"message\":\"started\""]).await).unwrap_or_default()
    }

    /// Asks it to end (SIGTERM), without waiting.
    ///
    /// # Errors
    /// When the signal cannot be sent; one that has ended already is no error.
    pub fn terminate(&self) -> anyhow::Result<()> {
        self.child.signal(Signal::SIGTERM)
    }

    /// Freezes it (SIGSTOP).
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.child.signal(Signal::SIGSTOP)
    }

    /// Ends [`Self::pause`].
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.child.signal(Signal::SIGCONT)
    }

    /// Kills it with SIGKILL; returns when it is gone.
    ///
    /// # Errors
    /// When it does not go.
    pub async fn kill9(&self) -> anyhow::Result<ExitStatus> {
        self.child.kill().await
    }

    /// Asks it to end (SIGTERM) and kills it when it has not within `limit`. The status tells
    /// which it was.
    ///
    /// # Errors
    /// When it does not go.
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

    /// Waits until it ends by itself; `None` when it has not within `limit`. Cancel safe.
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

/// A binary of this workspace, such as `holdfast-api`, where cargo puts it: beside our own binary,
/// or above the `deps` folder that a test runs from.
///
/// # Errors
/// When it is not built; the error says what to type. (Cargo builds a test's own crate's binaries,
/// and no other crate's.)
pub fn workspace_binary(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where we run from")?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not built; type: cargo build --bin {name}"))
}
