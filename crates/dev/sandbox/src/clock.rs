//! A clock that can be set, for the processes that are started with it.
//!
//! It is libfaketime: a library before all others that answers in the place of the system's
//! clock. What measures time instead of asking for it (the monotonic clock) is left alone, as it is by a
//! clock that jumps on a real machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::Keep;
use crate::folder::Folder;

const LIBRARY: &str = "libfaketimeMT.so.1";
const FILE: &str = "clock";

/// A clock, right until it is set. Dropping it stops it for processes that still run.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    folder: Folder,
}

impl Clock {
    /// Makes one.
    ///
    /// # Errors
    /// libfaketime is not installed; the error says what to type.
    pub fn new() -> anyhow::Result<Self> {
        let library = library().context(
            "libfaketime is not installed; type: sudo apt-get install --no-install-recommends faketime",
        )?;
        sweep();
        let clock = Self { library, folder: Folder::open(&Keep::Nothing, "clock")? };
        clock.right()?;
        Ok(clock)
    }

    /// What a process goes by it with.
    pub fn env(&self) -> Vec<(String, String)> {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            // A jump is seen at once.
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// Jumps so far ahead of the right time.
    ///
    /// # Errors
    /// Its file cannot be written.
    pub fn ahead(&self, by: Duration) -> anyhow::Result<()> {
        self.set(&format!("+{}", by.as_secs()))
    }

    /// Jumps so far behind the right time.
    ///
    /// # Errors
    /// Its file cannot be written.
    pub fn behind(&self, by: Duration) -> anyhow::Result<()> {
        self.set(&format!("-{}", by.as_secs()))
    }

    /// Jumps to the right time.
    ///
    /// # Errors
    /// Its file cannot be written.
    pub fn right(&self) -> anyhow::Result<()> {
        self.set("+0")
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join(FILE)
    }

    /// Nobody may read a half of it.
    fn set(&self, offset: &str) -> anyhow::Result<()> {
        let next = self.folder.path().join("next");
        fs::write(&next, format!("{offset}\n"))
            .and_then(|()| fs::rename(&next, self.file()))
            .context("the clock cannot be set")
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        sweep();
    }
}

/// Removes what libfaketime shares among a process's threads and children, of processes that are gone: one that is
/// killed leaves it, and a later one of that number and another user would not start for it.
fn sweep() {
    let Ok(entries) = fs::read_dir("/dev/shm") else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = ["sem.faketime_sem_", "faketime_shm_"]
            .iter()
            .find_map(|beginning| name.strip_prefix(beginning)?.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Where Debian keeps it: a folder for each architecture.
fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    std::iter::once(PathBuf::from("/usr/lib"))
        .chain(folders)
        .map(|folder: PathBuf| folder.join("faketime").join(LIBRARY))
        .find(|path| path.is_file())
}
