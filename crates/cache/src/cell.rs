//! The state of a product in this process: a value, the fence that makes it outdated, and the load in progress.
//!
//! The map in [`crate::l1`] may evict a cell at any time. That is safe: an evicted cell is never found again, so an
//! eviction between miss and fill drops the fill, as a lost lease does in Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use crate::entry::{Entry, Hit, StockChange, Tier};
use crate::flight::Flight;
use crate::value::RenderedEntry;

/// A range of versions that differ only in stock, so that a value with any of them can be patched to the last. It
/// describes the past, so it never becomes wrong.
#[derive(Clone, Copy)]
struct VersionRun {
    from: i64,
    to: i64,
    stock: i64,
    /// Until when `stock` may be used as a hint.
    until: Instant,
}

impl VersionRun {
    /// Joins two adjacent ranges (messages of two writers arrive in any order), or else keeps the later one.
    fn join(self, other: Self) -> Self {
        let (earlier, later) = if self.to <= other.to { (self, other) } else { (other, self) };
        if later.from <= earlier.to {
            Self { from: earlier.from.min(later.from), ..later }
        } else {
            later
        }
    }
}

/// The time of a read, and the generation of the subscription at that time.
#[derive(Clone, Copy)]
pub(crate) struct CacheMoment {
    pub(crate) now: Instant,
    /// Values of another generation are not trusted, because the subscription has been interrupted since then.
    pub(crate) generation: u64,
}

/// The condition under which a loaded value is kept.
#[derive(Clone, Copy)]
pub(crate) struct KeepCondition {
    /// The time at which the load began.
    pub(crate) since: CacheMoment,
    /// The fence in Redis after that moment: older values are outdated.
    pub(crate) floor: i64,
    /// Until when the value may be served, unless it is confirmed before then.
    pub(crate) until: Instant,
}

struct CellState<E> {
    generation: u64,
    /// Values older than this are neither served nor kept, because a writer is about to commit this version or has
    /// committed it.
    fence: i64,
    /// A fence lasts much longer than the transaction that set it. After this time, that transaction has failed.
    fenced_until: Option<Instant>,
    /// The newest committed version that is known. Later callers must not get an older one.
    committed: i64,
    run: Option<VersionRun>,
    kept: Option<(Arc<RenderedEntry<E>>, Instant)>,
    flight: Option<Arc<Flight<E>>>,
}

impl<E: Entry> CellState<E> {
    fn fence_at(&self, now: Instant) -> i64 {
        match self.fenced_until {
            Some(until) if now < until => self.fence.max(self.committed),
            _ => self.committed,
        }
    }

    fn current(&self, moment: CacheMoment) -> Option<&Arc<RenderedEntry<E>>> {
        let (value, until) = self.kept.as_ref()?;
        let valid = self.generation == moment.generation
            && moment.now < *until
            && value.entry.version() >= self.fence_at(moment.now);
        valid.then_some(value)
    }

    /// Forgets values of an earlier generation.
    fn enter(&mut self, generation: u64) {
        if self.generation < generation {
            self.generation = generation;
            self.kept = None;
            self.run = None;
        }
    }

    fn raise(&mut self, version: i64, until: Instant) {
        self.fence = self.fence.max(version);
        self.fenced_until = Some(self.fenced_until.map_or(until, |old| old.max(until)));
    }
}

/// See the module documentation.
pub(crate) struct Cell<E> {
    state: RwLock<CellState<E>>,
    /// Whether the value has been read since it was last confirmed with the database.
    read: AtomicBool,
}

/// What a reader has to do after a miss in memory.
pub(crate) enum Begin<E> {
    /// The value arrived in the meantime.
    Hit(Hit),
    /// Load it, and end the flight.
    Lead(Arc<Flight<E>>),
    /// Wait for the flight. A result below this version was read before a change that the caller may know of.
    Follow(Arc<Flight<E>>, i64),
}

impl<E: Entry> Cell<E> {
    pub(crate) fn new(generation: u64) -> Self {
        let state = RwLock::new(CellState {
            generation,
            fence: 0,
            fenced_until: None,
            committed: 0,
            run: None,
            kept: None,
            flight: None,
        });
        Self { state, read: AtomicBool::new(false) }
    }

    /// Records a read. Returns whether it is the first since the last confirmation.
    pub(crate) fn note_read(&self) -> bool {
        // Read first, so that the cache line of a hot product stays shared between processors.
        !self.read.load(Ordering::Relaxed) && !self.read.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn forget_read(&self) {
        self.read.store(false, Ordering::Relaxed);
    }

    /// The database had this version, or no such product. A value here that is not older is valid until `good_until`;
    /// an older one is no longer served, as if its writer had sent a message. Returns whether the value is valid.
    pub(crate) fn confirm(
        &self,
        version: Option<i64>,
        good_until: Instant,
        fenced_until: Instant,
    ) -> bool {
        let mut state = self.state.write();
        match (version, &mut state.kept) {
            (None, kept) => *kept = None,
            (Some(version), Some((value, until))) if value.entry.version() >= version => {
                *until = good_until.max(*until);
                return true;
            }
            (Some(version), _) => state.raise(version, fenced_until),
        }
        false
    }

    /// The value, if it may be served.
    pub(crate) fn read(&self, moment: CacheMoment) -> Option<Hit> {
        // Rendering under the read lock blocks only writers. Concurrent readers need the same body and wait for it
        // anyway.
        self.state.read().current(moment).map(|value| value.hit(Tier::Process))
    }

    /// The newest known version and stock, if no newer one is in progress.
    pub(crate) fn stock(&self, moment: CacheMoment) -> Option<(i64, i64)> {
        let state = self.state.read();
        if state.generation != moment.generation {
            return None;
        }
        let run = state.run.filter(|run| moment.now < run.until).map(|run| (run.to, run.stock));
        let kept = state.kept.as_ref().filter(|(_, until)| moment.now < *until);
        let kept = kept.map(|(value, _)| (value.entry.version(), value.entry.stock()));
        run.max(kept).filter(|(version, _)| *version >= state.fence_at(moment.now))
    }

    /// Joins the load in progress, or leads a new one. `armed` says whether a value here may be served.
    pub(crate) fn begin(&self, moment: CacheMoment, armed: bool) -> Begin<E> {
        let mut state = self.state.write();
        state.enter(moment.generation);
        if armed && let Some(value) = state.current(moment) {
            return Begin::Hit(value.hit(Tier::Process));
        }
        if let Some(flight) = &state.flight {
            return Begin::Follow(flight.clone(), state.committed);
        }
        let flight = Arc::new(Flight::new());
        state.flight = Some(flight.clone());
        Begin::Lead(flight)
    }

    /// The oldest version that may be taken from Redis.
    pub(crate) fn floor(&self, now: Instant) -> i64 {
        self.state.read().fence_at(now)
    }

    /// Ends a load that found a value: applies the stock changes of the meantime, keeps the value if `keep` is met, and
    /// returns it. `keep` must be `None` if the process's memory is not armed. Also returns whether it was kept.
    pub(crate) fn finish(
        &self,
        flight: &Arc<Flight<E>>,
        mut value: RenderedEntry<E>,
        keep: Option<KeepCondition>,
    ) -> (Arc<RenderedEntry<E>>, bool) {
        let mut state = self.state.write();
        Self::land(&mut state, flight);
        if let Some(run) = state.run
            && (run.from..run.to).contains(&value.entry.version())
        {
            value.patch(run.to, run.stock);
        }
        let version = value.entry.version();
        let value = Arc::new(value);
        let kept = keep.filter(|keep| {
            keep.since.generation == state.generation
                && version >= keep.floor
                && version >= state.fence_at(keep.since.now)
                && state.kept.as_ref().is_none_or(|(old, _)| old.entry.version() <= version)
        });
        if let Some(keep) = kept {
            state.kept = Some((value.clone(), keep.until));
        }
        (value, kept.is_some())
    }

    /// Ends a load that found nothing, failed or was abandoned. Returns whether nothing is known here now.
    pub(crate) fn abandon(&self, flight: &Arc<Flight<E>>) -> bool {
        let mut state = self.state.write();
        Self::land(&mut state, flight);
        state.kept.is_none() && state.run.is_none() && state.fence == 0 && state.committed == 0
    }

    fn land(state: &mut CellState<E>, flight: &Arc<Flight<E>>) {
        if state.flight.as_ref().is_some_and(|current| Arc::ptr_eq(current, flight)) {
            state.flight = None;
        }
    }

    /// A writer is about to commit this version.
    pub(crate) fn raise(&self, version: i64, until: Instant) {
        self.state.write().raise(version, until);
    }

    /// A version was committed that differs not only in stock.
    pub(crate) fn change(&self, version: i64, until: Instant) {
        let mut state = self.state.write();
        state.raise(version, until);
        state.committed = state.committed.max(version);
        state.kept.take_if(|(value, _)| value.entry.version() < version);
    }

    /// A version may have been committed: older values are no longer served from memory, but a load may still return
    /// one.
    pub(crate) fn suspend(&self, version: i64, until: Instant) {
        let mut state = self.state.write();
        state.raise(version, until);
        // Later readers load it again.
        state.flight = None;
    }

    /// A version was committed that differs only in stock. Returns whether a value was patched.
    pub(crate) fn restock(
        &self,
        change: &StockChange,
        moment: CacheMoment,
        ttl: Duration,
        max_age: Duration,
    ) -> bool {
        let mut state = self.state.write();
        state.enter(moment.generation);
        state.raise(change.version, moment.now + ttl);
        state.committed = state.committed.max(change.version);
        let until = moment.now + max_age;
        let new = VersionRun {
            from: change.previous_version,
            to: change.version,
            stock: change.stock,
            until,
        };
        let run = state.run.map_or(new, |run| run.join(new));
        state.run = Some(run);
        let Some((value, _)) = &mut state.kept else { return false };
        if !(run.from..run.to).contains(&value.entry.version()) {
            // The value is newer than this range, or too old for it. Another range may still close the gap, and until
            // then the fence prevents an old value from being served.
            return false;
        }
        Arc::make_mut(value).patch(run.to, run.stock);
        true
    }
}

#[cfg(test)]
pub(crate) mod tests;
