//! A child process that ends with this process, and whose process id is never mixed up with that of another process.
//!
//! `setpriv --pdeathsig` asks the kernel to signal the child when its parent ends. It also changes the user if
//! required; this must happen first, because a change of user clears the setting. For the kernel, the parent is the
//! *thread* that spawned the child. Therefore each child has its own thread, which spawns it and waits for it, so that
//! the thread lives as long as the child.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, User};
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::folder::FOLDER_VARIABLE;
use crate::port::LaunchError;
use crate::programs;

/// The parameters of a start.
pub(crate) struct Launch<'a> {
    pub(crate) program: &'a Path,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// The working directory. A later sweep recognises the process by it.
    pub(crate) folder: &'a Path,
    /// The file to which stdout and stderr are appended.
    pub(crate) log: &'a Path,
    /// Another user to run as, which only root can do.
    pub(crate) user: Option<&'a User>,
    /// The signal that the kernel sends to the child when this process ends.
    pub(crate) death_signal: Signal,
}

/// A running or ended child. Dropping it kills it with SIGKILL and waits until it is gone.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    shared: Arc<ChildState>,
    exited: watch::Receiver<Option<ExitStatus>>,
}

#[derive(Debug, Default)]
struct ChildState {
    /// Set in the critical section in which the child is reaped. As long as it is `None`, the kernel cannot have
    /// assigned the process id to another process.
    status: Mutex<Option<ExitStatus>>,
    reaped: Condvar,
}

impl Child {
    pub(crate) fn spawn(launch: &Launch<'_>) -> anyhow::Result<Self> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(launch.log)
            .with_context(|| format!("cannot open the log {}", launch.log.display()))?;
        let mut command = Command::new(programs::setpriv()?);
        command.arg(format!("--pdeathsig={}", signal_name(launch.death_signal)));
        if let Some(user) = launch.user {
            command
                .arg(format!("--reuid={}", user.uid))
                .arg(format!("--regid={}", user.gid))
                .arg("--clear-groups");
        }
        command.arg("--");
        // A preloaded library is meant for the program, not for setpriv, which may run as another user.
        let (preload, env): (Vec<_>, Vec<_>) =
            launch.env.iter().partition(|(name, _)| name == "LD_PRELOAD");
        for (name, value) in preload {
            command.arg("env").arg(format!("{name}={value}"));
        }
        command
            .arg(launch.program)
            .args(&launch.args)
            .env(FOLDER_VARIABLE, launch.folder)
            .envs(env.into_iter().map(|(name, value)| (name, value)))
            .current_dir(launch.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A Ctrl-C in the terminal signals the whole foreground process group. The children are not in it, because
            // they are stopped in order.
            .process_group(0);

        let shared = Arc::new(ChildState::default());
        let (exited_sender, exited) = watch::channel(None);
        let (pid_sender, pid_receiver) = std::sync::mpsc::sync_channel(1);
        let waiter = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("sandbox-child".to_owned())
            .spawn(move || {
                let mut child = match command.spawn() {
                    Ok(child) => child,
                    Err(error) => {
                        let _ = pid_sender.send(Err(error));
                        return;
                    }
                };
                let pid = Pid::from_raw(child.id().cast_signed());
                let _ = pid_sender.send(Ok(pid));
                // Wait without reaping, so that the lock below is held only for a moment.
                while let Err(nix::errno::Errno::EINTR) =
                    waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)
                {
                }
                let mut status = waiter.status.lock();
                if let Ok(ended) = child.wait() {
                    *status = Some(ended);
                    exited_sender.send_replace(Some(ended));
                }
                waiter.reaped.notify_all();
            })
            .context("cannot start a thread")?;
        let pid = pid_receiver
            .recv()
            .context("the thread that starts processes has ended")?
            .with_context(|| format!("cannot start {}", launch.program.display()))?;
        Ok(Self { pid, shared, exited })
    }

    /// Runs a short command, and waits until it ends.
    pub(crate) async fn run(launch: &Launch<'_>, limit: Duration) -> anyhow::Result<()> {
        let child = Self::spawn(launch)?;
        let name = launch.program.display();
        let Some(status) = child.wait(limit).await else {
            bail!("{name} did not end within {limit:?}");
        };
        if !status.success() {
            bail!("{name} failed ({status}):\n{}", log_tail(launch.log, 10));
        }
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    /// The exit status, if the process has ended.
    pub(crate) fn status(&self) -> Option<ExitStatus> {
        *self.shared.status.lock()
    }

    /// Fails if a starting server has ended. `log_before` is the length of its log before the start.
    pub(crate) fn check_start(
        &self,
        name: &str,
        log: &Path,
        log_before: u64,
    ) -> Result<(), LaunchError> {
        let Some(status) = self.status() else { return Ok(()) };
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let new = text.get(usize::try_from(log_before).unwrap_or(0)..);
        if new.is_some_and(|text| text.contains("Address already in use")) {
            return Err(LaunchError::AddressInUse);
        }
        Err(anyhow::anyhow!("{name} ended ({status}):\n{}", log_tail(log, 15)).into())
    }

    /// Sends a signal. Does nothing if the process has ended.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let status = self.shared.status.lock();
        if status.is_none() {
            kill(self.pid, signal).with_context(|| format!("cannot send {signal}"))?;
        }
        Ok(())
    }

    /// Waits until the process has ended; `None` if this takes longer than `limit`. Cancel safe.
    pub(crate) async fn wait(&self, limit: Duration) -> Option<ExitStatus> {
        let mut exited = self.exited.clone();
        match tokio::time::timeout(limit, exited.wait_for(Option::is_some)).await {
            Ok(Ok(status)) => *status,
            _ => self.status(),
        }
    }

    /// Like [`Self::wait`], for `Drop`, which cannot await.
    pub(crate) fn wait_blocking(&self, limit: Duration) -> Option<ExitStatus> {
        let mut status = self.shared.status.lock();
        self.shared.reaped.wait_while_for(&mut status, |status| status.is_none(), limit);
        *status
    }

    /// Sends a signal, waits up to a limit, and then sends SIGKILL. Returns the exit status.
    pub(crate) async fn stop(&self, signal: Signal, limit: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(signal)?;
        self.signal(Signal::SIGCONT)?; // a paused process would not handle the signal
        if let Some(status) = self.wait(limit).await {
            return Ok(status);
        }
        self.kill().await
    }

    /// Sends SIGKILL, and waits until the process has ended.
    pub(crate) async fn kill(&self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::SIGKILL)?;
        self.wait(KILL_WAIT).await.context("the process outlived SIGKILL")
    }
}

/// A killed process usually ends within milliseconds.
const KILL_WAIT: Duration = Duration::from_secs(10);

impl Drop for Child {
    fn drop(&mut self) {
        if self.signal(Signal::SIGKILL).is_ok() {
            self.wait_blocking(KILL_WAIT);
        }
    }
}

/// The name without `SIG`, as `setpriv` expects it.
fn signal_name(signal: Signal) -> &'static str {
    signal.as_str().trim_start_matches("SIG")
}

/// The last lines of a log. At most the last 64 KiB are read.
pub(crate) fn log_tail(log: &Path, lines: usize) -> String {
    use std::io::{Read as _, Seek as _, SeekFrom};
    const READ_MAX: u64 = 64 * 1024;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(READ_MAX)))?;
        let mut bytes = Vec::new();
        file.take(READ_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The current children of a process.
pub(crate) fn children_of(pid: u32) -> Vec<Pid> {
    let path = PathBuf::from(format!("/proc/{pid}/task/{pid}/children"));
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.parse().ok().map(Pid::from_raw))
        .collect()
}
