//! Folders for the data of servers. The owner locks its folder.
//!
//! The kernel releases the lock (`flock`) however the owner ends. A folder without a lock is stale: the next sweep ends
//! the processes in it and removes it.
//!
//! All folders are in one base folder for each user. Other users can pass through it but not list it, because a server
//! that root starts runs as another user.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

use crate::mounted;

/// An environment variable of every child: its folder. A sweep ends only processes that have it.
pub(crate) const FOLDER_VARIABLE: &str = "HOLDFAST_SANDBOX_FOLDER";

/// The folder in which the logs of all processes are kept, to be searched together.
const LOGS_VARIABLE: &str = "HOLDFAST_TEST_LOGS";

const OWNER_LOCK: &str = "owner.lock";
const RUNS: &str = "runs";

/// The folder of a server's data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Keep {
    /// A new folder, which is removed at the end.
    #[default]
    Nothing,
    /// This folder, which is created if it does not exist, and kept. Only one sandbox can use it at a time.
    In(PathBuf),
}

/// A folder that is locked until dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    remove: bool,
    /// Held only for the lock, which is released when the file is closed.
    _lock: File,
}

impl Folder {
    pub(crate) fn open(keep: &Keep, name: &str) -> anyhow::Result<Self> {
        match keep {
            Keep::Nothing => Self::fresh(name),
            Keep::In(path) => Self::kept(path),
        }
    }

    /// A new empty folder. The first call in a process removes stale folders.
    fn fresh(name: &str) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        static SWEPT: Once = Once::new();
        let base = base()?;
        SWEPT.call_once(|| {
            if let Ok(stale) = end_stale() {
                // Databases are many files. A folder that is not removed now does no harm, because names are not reused.
                std::thread::spawn(move || remove(&stale));
            }
        });
        let runs = base.join(RUNS);
        // A sweep in another process must not run between creating and locking the folder.
        let _gate = gate(&base)?;
        let path = loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = runs.join(format!("{name}-{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o711).create(&path) {
                Ok(()) => break path,
                // Left by an earlier process with the same id.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot make {}", path.display()));
                }
            }
        };
        let lock = File::create(path.join(OWNER_LOCK))?;
        lock.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Self { path, remove: true, _lock: lock })
    }

    fn kept(path: &Path) -> anyhow::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        let path = path.canonicalize()?;
        let lock = File::create(path.join(OWNER_LOCK))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "{} is in use by another sandbox; HOLDFAST_SANDBOX_DATA names another folder",
                    path.display()
                )
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        end_processes_in(&path)?;
        Ok(Self { path, remove: false, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Folder {
    /// Copies the logs to the folder in `HOLDFAST_TEST_LOGS`, if it is set.
    fn keep_logs(&self) -> std::io::Result<()> {
        let Some(into) = std::env::var_os(LOGS_VARIABLE).map(PathBuf::from) else { return Ok(()) };
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        for entry in fs::read_dir(&self.path)?.flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                let file = entry.file_name().to_string_lossy().into_owned();
                fs::copy(entry.path(), into.join(format!("{name}-{file}")))?;
            }
        }
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.remove {
            // Only a search of all logs for secrets reads these copies.
            let _ = self.keep_logs();
            // If something remains, it is stale as soon as the lock is released, and the next sweep removes it.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Ends processes whose owner has ended, and removes their folders. Each process begins this before it starts its first
/// server. Returns the number of removed folders.
///
/// # Errors
/// The base folder cannot be used.
pub fn sweep() -> anyhow::Result<usize> {
    Ok(remove(&end_stale()?))
}

/// A folder without an owner, and its lock.
type Stale = (PathBuf, File);

/// Ends the processes in stale folders.
fn end_stale() -> anyhow::Result<Vec<Stale>> {
    let base = base()?;
    let mut stale = Vec::new();
    {
        let _gate = gate(&base)?;
        for entry in fs::read_dir(base.join(RUNS))?.flatten() {
            // The lock file may be missing if an earlier sweep was interrupted.
            let Ok(lock) = File::create(entry.path().join(OWNER_LOCK)) else { continue };
            if lock.try_lock().is_ok() {
                stale.push((entry.path(), lock));
            }
        }
    }
    stale.retain(|(path, _)| end_processes_in(path).is_ok());
    Ok(stale)
}

fn remove(stale: &[Stale]) -> usize {
    let removed = stale.iter().filter(|(path, _)| {
        mounted::detach_in(path);
        fs::remove_dir_all(path).is_ok()
    });
    removed.count()
}

/// The base folder: `HOLDFAST_SANDBOX_DIR`, or `${TMPDIR:-/tmp}/holdfast-sandbox-<uid>`. It is created if it does not
/// exist.
pub(crate) fn base() -> anyhow::Result<PathBuf> {
    let uid = Uid::effective();
    let base = match std::env::var_os("HOLDFAST_SANDBOX_DIR") {
        Some(path) => PathBuf::from(path),
        None => temporary_folder().join(format!("holdfast-sandbox-{uid}")),
    };
    for folder in [&base, &base.join(RUNS)] {
        DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let meta = fs::symlink_metadata(&base)?;
    // Any user can create a folder with this name in /tmp.
    if !meta.is_dir() || meta.uid() != uid.as_raw() {
        bail!("{} belongs to another user; set HOLDFAST_SANDBOX_DIR", base.display());
    }
    if meta.mode() & 0o777 != 0o711 {
        fs::set_permissions(&base, Permissions::from_mode(0o711))?;
    }
    base.canonicalize().with_context(|| format!("cannot resolve {}", base.display()))
}

/// `TMPDIR`, unless this process is root and another user could not enter it.
fn temporary_folder() -> PathBuf {
    let folder = std::env::temp_dir();
    let passable = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o001 != 0);
    if Uid::effective().is_root() && !folder.ancestors().all(passable) {
        return PathBuf::from("/tmp");
    }
    folder
}

/// A kept folder contains the log of the previous run. That log is renamed; older ones are deleted.
pub(crate) fn set_old_log_aside(log: &Path) -> anyhow::Result<()> {
    if log.exists() {
        fs::rename(log, log.with_extension("log.old"))
            .with_context(|| format!("cannot set {} aside", log.display()))?;
    }
    Ok(())
}

fn gate(base: &Path) -> anyhow::Result<File> {
    let path = base.join("gate.lock");
    let gate = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    gate.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(gate)
}

/// Kills processes that a sandbox started in `folder` and that are still running, and waits until they have ended.
/// Blocks. The caller must have locked the folder.
pub(crate) fn end_processes_in(folder: &Path) -> anyhow::Result<()> {
    const LIMIT: Duration = Duration::from_secs(10);
    let started = Instant::now();
    loop {
        let left = processes_in(folder);
        if left.is_empty() {
            return Ok(());
        }
        for pid in &left {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        if started.elapsed() > LIMIT {
            bail!("processes {left:?} in {} do not end", folder.display());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal to all processes that a sandbox started in `folder`, also to those that they start in the meantime. Blocks.
pub(crate) fn signal_processes_in(folder: &Path, signal: Signal) {
    let mut signalled = Vec::new();
    loop {
        let more: Vec<_> =
            processes_in(folder).into_iter().filter(|pid| !signalled.contains(pid)).collect();
        if more.is_empty() {
            return;
        }
        for pid in &more {
            let _ = kill(*pid, signal);
        }
        signalled.extend(more);
    }
}

/// Processes that a sandbox started and whose working directory is in `folder`. A user's shell in the folder is not one
/// of them. A PostgreSQL backend overwrites its environment with its title, so it is recognised by the name of its
/// program.
fn processes_in(folder: &Path) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mark = format!("{FOLDER_VARIABLE}=");
    let ours = |process: &Path| {
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        name.trim_end() == "postgres"
            || environment.split(|byte| *byte == 0).any(|item| item.starts_with(mark.as_bytes()))
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            // A zombie has no working directory. It counts as ended.
            let cwd = fs::read_link(entry.path().join("cwd")).ok()?;
            (cwd.starts_with(folder) && ours(&entry.path())).then_some(Pid::from_raw(pid))
        })
        .collect()
}
