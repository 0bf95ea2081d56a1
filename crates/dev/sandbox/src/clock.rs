//! A clock that can be set, for the processes that are started with it.
//!
//! It is libfaketime, a preloaded library that replaces the system's clock functions. The monotonic clock is not
//! affected, just as it is not affected when the clock of a real machine jumps.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::Keep;
use crate::folder::Folder;

const LIBRARY: &str = "libfaketimeMT.so.1";
const FILE: &str = "clock";

/// A clock. It shows the correct time until it is set. Dropping it stops it for processes that are still running.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    folder: Folder,
}

impl Clock {
    /// Creates a clock.
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

    /// The environment variables for a process that is to use this clock.
    pub fn env(&self) -> Vec<(String, String)> {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            // Processes see a jump immediately.
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// Jumps ahead of the correct time.
    ///
    /// # Errors
    /// Its file cannot be written.
    pub fn ahead(&self, by: Duration) -> anyhow::Result<()> {
        self.set(&format!("+{}", by.as_secs()))
    }

    /// Jumps behind the correct time.
    ///
    /// # Errors
    /// Its file cannot be written.
    pub fn behind(&self, by: Duration) -> anyhow::Result<()> {
        self.set(&format!("-{}", by.as_secs()))
    }

    /// Jumps to the correct time.
    ///
    /// # Errors
    /// Its file cannot be written.
    pub fn right(&self) -> anyhow::Result<()> {
        self.set("+0")
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join(FILE)
    }

    /// Written atomically, because processes read it at any time.
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

/// Removes the shared memory and semaphores of processes that no longer exist. A process that is killed leaves them
/// behind, and a later process with the same id and another user would not start.
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

/// The path on Debian, which contains the architecture.
fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    std::iter::once(PathBuf::from("/usr/lib"))
        .chain(folders)
        .map(|folder: PathBuf| folder.join("faketime").join(LIBRARY))
        .find(|path| path.is_file())
}
