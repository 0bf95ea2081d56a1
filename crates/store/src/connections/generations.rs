//! Which sessions are too old, and whether the server accepts writes.
//!
//! A session that began while the server did not accept writes may stay read-only: its server is still a standby, or
//! the session took over a read-only setting when it began. Reads and pings work on it, so only a refused write shows
//! this. Likewise, if one session is found dead after a restart of the server or of a proxy, all older sessions are
//! dead too. So sessions are numbered, and all sessions up to a number can be retired together.

use std::{
    fmt, io,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// How often callers that want to write ask a read-only server again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Shared by all sets of a store.
#[derive(Debug, Default)]
pub(crate) struct Generations {
    made: AtomicU64,
    retired: AtomicU64,
    /// When a write was last refused on a new session.
    read_only: Mutex<Option<Instant>>,
    /// Called for each new session with the identity of its database.
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

    /// From now on, `told` is called for each new session with the identity of its database, before the session is
    /// used. Only the first call has an effect.
    pub fn watch(&self, told: impl Fn(&str) + Send + Sync + 'static) {
        let _ = self.watcher.set(Watcher(Box::new(told)));
    }

    pub fn watcher(&self) -> Option<&(dyn Fn(&str) + Send + Sync)> {
        self.watcher.get().map(|watcher| &*watcher.0)
    }

    /// Retires all existing sessions.
    pub fn retire_all(&self) {
        self.retired.fetch_max(self.made.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// A write was refused because the session does not accept writes.
    pub fn refused(&self, fresh: bool) {
        let mut read_only = self.read_only.lock();
        if fresh {
            // The session is new, so the server itself is read-only.
            *read_only = Some(Instant::now());
        } else if read_only.is_none() {
            self.retire_all();
        }
        // While the server accepts no writes, its sessions can still be used for reads. They are retired after the
        // first successful write.
    }

    /// A write succeeded on this session.
    pub fn written(&self, number: u64) {
        if self.read_only.lock().take().is_some() {
            self.retired.fetch_max(number.saturating_sub(1), Ordering::SeqCst);
        }
    }

    /// Whether the server did not accept writes when it was last asked. If so, the caller must ask it again.
    ///
    /// # Errors
    /// It was asked a moment ago.
    pub fn is_read_only(&self) -> Result<bool, sqlx::Error> {
        let mut read_only = self.read_only.lock();
        let Some(asked) = &mut *read_only else { return Ok(false) };
        if asked.elapsed() < ASK_AGAIN {
            let error = io::Error::new(
                io::ErrorKind::ReadOnlyFilesystem,
                "the database server does not accept writes at the moment",
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
