//! One child process: started so that it dies with us, signalled without hitting a stranger.
//!
//! `setpriv --pdeathsig` asks the kernel to signal the child when its parent ends, and changes the
//! user first where that is wanted (a change of user clears the setting, so the order matters). The
//! kernel takes the *thread* that spawned for the parent, so each child has a thread of its own,
//! which spawns it and then waits for it: it lives exactly as long as the child.

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

/// How a child is to be started.
pub(crate) struct Launch<'a> {
    pub(crate) program: &'a Path,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// Working directory, and the mark by which a later sweep knows the process.
    pub(crate) folder: &'a Path,
    /// Takes stdout and stderr, appended.
    pub(crate) log: &'a Path,
    /// Another user to run as; only root can.
    pub(crate) user: Option<&'a User>,
    /// What the kernel sends the child when we are gone.
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
    /// Set in the same critical section in which the child is reaped: while it is `None` the
    /// process id cannot have passed to a stranger.
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
        // A library that is loaded before others is the program's: setpriv may be another user.
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
            // A Ctrl-C in the terminal goes to the whole foreground group: not to our children,
            // whom we stop in order.
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
                // Wait without reaping, so that the reaping below is never a long wait.
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
            .context("the thread that spawns ended")?
            .with_context(|| format!("cannot start {}", launch.program.display()))?;
        Ok(Self { pid, shared, exited })
    }

    /// Runs a short command to its end.
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

    /// How it ended, if it has.
    pub(crate) fn status(&self) -> Option<ExitStatus> {
        *self.shared.status.lock()
    }

    /// Fails if a server has ended that is to start. `log_before` is the length of its log before the start.
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

    /// Sends a signal; one that has ended already is left alone, and that is no error.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let status = self.shared.status.lock();
        if status.is_none() {
            kill(self.pid, signal).with_context(|| format!("cannot send {signal}"))?;
        }
        Ok(())
    }

    /// Waits until it has ended, `None` if the limit passed first. Cancel safe.
    pub(crate) async fn wait(&self, limit: Duration) -> Option<ExitStatus> {
        let mut exited = self.exited.clone();
        match tokio::time::timeout(limit, exited.wait_for(Option::is_some)).await {
            Ok(Ok(status)) => *status,
            _ => self.status(),
        }
    }

    /// As [`Self::wait`], for a `Drop`, which cannot await.
    pub(crate) fn wait_blocking(&self, limit: Duration) -> Option<ExitStatus> {
        let mut status = self.shared.status.lock();
        self.shared.reaped.wait_while_for(&mut status, |status| status.is_none(), limit);
        *status
    }

    /// A signal, a limited wait, then SIGKILL: returns how it ended.
    pub(crate) async fn stop(&self, signal: Signal, limit: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(signal)?;
        self.signal(Signal::SIGCONT)?; // one that is paused would never see the other
        if let Some(status) = self.wait(limit).await {
            return Ok(status);
        }
        self.kill().await
    }

    /// SIGKILL; returns when it is gone.
    pub(crate) async fn kill(&self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::SIGKILL)?;
        self.wait(KILL_WAIT).await.context("the process outlived SIGKILL")
    }
}

/// A killed process is gone in milliseconds; the limit is for a machine in deep trouble.
const KILL_WAIT: Duration = Duration::from_secs(10);

impl Drop for Child {
    fn drop(&mut self) {
        if self.signal(Signal::SIGKILL).is_ok() {
            self.wait_blocking(KILL_WAIT);
        }
    }
}

/// `setpriv` wants the name without its `SIG`.
fn signal_name(signal: Signal) -> &'static str {
    signal.as_str().trim_start_matches("SIG")
}

/// The last `lines` lines of a log; of a long one no more than the last 64 KiB are read.
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

/// The ids of a process's children, as the kernel lists them now.
pub(crate) fn children_of(pid: u32) -> Vec<Pid> {
    let path = PathBuf::from(format!("/proc/{pid}/task/{pid}/children"));
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.parse().ok().map(Pid::from_raw))
        .collect()
}
