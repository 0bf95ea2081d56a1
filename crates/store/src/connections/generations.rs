//! Which sessions are too old, and whether the server takes writes.
//!
//! A session that began while the server took no writes stays so: its server is a standby still, or the setting was
//! read when it began. Reads and pings work on it, so nothing but a refused write tells. Likewise, when
//! one session was found dead after a restart of the server or of something in between, all from before are. So sessions
//! are numbered, and those up to a number can be retired at once.

use std::{
    fmt, io,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// How often callers that want to write ask a server again that takes no writes.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Shared by all sets of a store.
#[derive(Debug, Default)]
pub(crate) struct Generations {
    made: AtomicU64,
    retired: AtomicU64,
    /// When a session that had just been made was refused a write.
    read_only: Mutex<Option<Instant>>,
    /// Told by each session that is made in which database it is.
    watcher: OnceLock<Watcher>,
}

struct Watcher(Box<dyn Fn(&str) + Send + Sync>);

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watcher")
    }
}

impl Generations {
    pub fn next(&self) -> u64 {
        self.made.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub fn is_retired(&self, number: u64) -> bool {
        number <= self.retired.load(Ordering::SeqCst)
    }

    /// Has `told` told by each session that is made from now on in which database it is, before it is used. Only
    /// the first call does anything.
    pub fn watch(&self, told: impl Fn(&str) + Send + Sync + 'static) {
        let _ = self.watcher.set(Watcher(Box::new(told)));
    }

    pub fn watcher(&self) -> Option<&(dyn Fn(&str) + Send + Sync)> {
        self.watcher.get().map(|watcher| &*watcher.0)
    }

    /// No session made so far is used any more.
    pub fn retire_all(&self) {
        self.retired.fetch_max(self.made.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// A write was refused because the session takes none.
    pub fn refused(&self, fresh: bool) {
        let mut read_only = self.read_only.lock();
        if fresh {
            // It is the server.
            *read_only = Some(Instant::now());
        } else if read_only.is_none() {
            self.retire_all();
        }
        // While the server takes none, its sessions are good for reading. They go with the first write.
    }

    /// Something was written on this session.
    pub fn written(&self, number: u64) {
        if self.read_only.lock().take().is_some() {
            self.retired.fetch_max(number.saturating_sub(1), Ordering::SeqCst);
        }
    }

    /// Whether the server took no writes when it was asked last; then the caller asks it.
    ///
    /// # Errors
    /// It was asked a moment ago.
    pub fn is_read_only(&self) -> Result<bool, sqlx::Error> {
        let mut read_only = self.read_only.lock();
        let Some(asked) = &mut *read_only else { return Ok(false) };
        if asked.elapsed() < ASK_AGAIN {
            let error = io::Error::new(
                io::ErrorKind::ReadOnlyFilesystem,
                "the database server takes no writes at present",
            );
            return Err(sqlx::Error::Io(error));
        }
        *asked = Instant::now();
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::Generations;

    #[test]
    fn a_refusal_on_an_old_session_retires_all_older_ones() {
        let generations = Generations::default();
        let (first, second) = (generations.next(), generations.next());
        generations.refused(false);
        assert!(generations.is_retired(first) && generations.is_retired(second));
        assert!(!generations.is_retired(generations.next()));
        assert!(!generations.is_read_only().unwrap());
    }

    #[test]
    fn a_read_only_server_is_asked_again_only_after_some_time() {
        let generations = Generations::default();
        let (old, new) = (generations.next(), generations.next());
        generations.refused(true);
        assert!(!generations.is_retired(old), "it is good for reading");
        generations.is_read_only().unwrap_err();
        generations.written(new);
        assert!(!generations.is_read_only().unwrap());
        assert!(generations.is_retired(old) && !generations.is_retired(new));
    }
}
