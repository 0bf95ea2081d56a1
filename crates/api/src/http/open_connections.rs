//! The open connections of a port, and the selection of those that are closed to make room.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::connection::{ClientWait, ConnectionState};

/// The most connections that are closed at once, because a search through all connections takes time.
const EVICTED_AT_ONCE: usize = 256;
/// A connection that has been idle for this time is closed before connections with an incomplete request.
const LONG_IDLE_MS: u64 = 5_000;
/// How long a connection with an incomplete request or an unread answer is not closed.
const UNFINISHED_MS: u64 = 500;
/// The shortest time between two searches, because an unsuccessful search reads all connections.
const LOOK_MS: u64 = 20;
/// How long an idle connection is not closed.
const IDLE_MS: u64 = 100;

/// See the module documentation.
pub(super) struct OpenConnections {
    epoch: Instant,
    all: Mutex<HashMap<u64, Arc<ConnectionState>>>,
    /// The number of selected connections that are still open.
    leaving: Arc<AtomicUsize>,
    /// The time of the last search, in milliseconds.
    looked: AtomicU64,
    ending: AtomicBool,
}

/// The registration of a connection, which ends on drop.
pub(super) struct OpenConnection {
    id: u64,
    pub state: Arc<ConnectionState>,
    among: Arc<OpenConnections>,
}

impl OpenConnections {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            epoch: Instant::now(),
            all: Mutex::default(),
            leaving: Arc::default(),
            looked: AtomicU64::new(0),
            ending: AtomicBool::new(false),
        })
    }

    /// Adds a connection with a unique `id`.
    pub fn enter(self: &Arc<Self>, id: u64) -> OpenConnection {
        let state = Arc::new(ConnectionState::new(self.epoch, Arc::clone(&self.leaving)));
        self.all.lock().insert(id, Arc::clone(&state));
        if self.ending.load(Ordering::Relaxed) {
            state.end();
        }
        OpenConnection { id, state, among: Arc::clone(self) }
    }

    /// The number of connections.
    pub fn count(&self) -> usize {
        self.all.lock().len()
    }

    /// Ends each connection after its current request, including those that are added later.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
        for state in self.all.lock().values() {
            state.end();
        }
    }

    /// Closes some connections that wait for their clients, those with the longest wait first, unless some are being closed
    /// already. Returns their number.
    pub fn make_room(&self) -> usize {
        if self.leaving.load(Ordering::Relaxed) > 0 {
            return 0;
        }
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        let looked = self.looked.load(Ordering::Relaxed);
        let due = now >= looked.saturating_add(LOOK_MS);
        // Only one waiting connection searches.
        if !due
            || self
                .looked
                .compare_exchange(looked, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            return 0;
        }
        let mut waiting: Vec<_> = {
            let all = self.all.lock();
            all.values()
                .filter_map(|state| {
                    let (waits, since) = state.waits()?;
                    let time = state.millis_since(since);
                    let order = match waits {
                        ClientWait::Idle if time >= LONG_IDLE_MS => 0,
                        ClientWait::InARequest if time >= UNFINISHED_MS => 1,
                        ClientWait::Idle if time >= IDLE_MS => 2,
                        _ => return None,
                    };
                    Some(((order, since), Arc::clone(state)))
                })
                .collect()
        };
        // Enough for some time, but a small part of all connections.
        let wanted = (self.count() / 16).clamp(1, EVICTED_AT_ONCE);
        if waiting.len() > wanted {
            waiting.select_nth_unstable_by_key(wanted, |(order, _)| *order);
            waiting.truncate(wanted);
        }
        let evicted = waiting.len();
        for ((_, since), state) in waiting {
            state.evict(since);
        }
        evicted
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        // It cannot be selected after this.
        self.among.all.lock().remove(&self.id);
        self.state.stay();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn pass(millis: u64) {
        tokio::time::advance(Duration::from_millis(millis)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_makes_room_first() {
        let open = OpenConnections::new();
        let first = open.enter(1);
        pass(50).await;
        assert_eq!(open.make_room(), 0);
        assert!(!first.state.is_evicted(), "a connection gets time to send bytes");
        pass(100).await;
        let second = open.enter(2);
        pass(200).await;
        assert_eq!(open.make_room(), 1);
        assert!(first.state.is_evicted() && !second.state.is_evicted());
        assert_eq!(open.make_room(), 0);
        assert!(!second.state.is_evicted(), "the first is about to end");
        drop(first);
        pass(LOOK_MS).await;
        assert_eq!(open.make_room(), 1);
        assert!(second.state.is_evicted());
        drop(second);
        assert_eq!(open.count(), 0);
        assert_eq!(open.make_room(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn at_shutdown_all_connections_end_including_new_ones() {
        let open = OpenConnections::new();
        let before = open.enter(1);
        open.end();
        let after = open.enter(2);
        for entry in [&before, &after] {
            assert!(entry.state.is_ending() && !entry.state.is_evicted());
        }
    }
}
