//! The state of a connection for other tasks: its deadlines, and whether it can be closed to make room for another one.
//!
//! The connection's own task writes it a few times per request, and the task that accepts connections reads it. Times are
//! milliseconds since the start of the listener.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::{net::TcpStream, time::Instant};

use super::request_head::RefusedHead;
use crate::problem::ProblemKind;

/// The time limits for a client.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// The longest time from the first byte of a request to the end of its headers.
    pub header: Duration,
    /// The longest time between two requests.
    pub idle: Duration,
    /// The longest time without progress of an answer.
    pub write: Duration,
    /// The lowest average rate of a body or an answer, in bytes per second; 0 means no limit.
    pub bytes_per_second: u64,
}

impl Patience {
    /// The additional time after `bytes` of progress.
    pub fn earned(&self, bytes: u64) -> Option<Duration> {
        let millis = bytes.saturating_mul(1000).checked_div(self.bytes_per_second)?;
        Some(Duration::from_millis(millis))
    }
}

/// The event that a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum ConnectionPhase {
    /// The first byte of a request.
    Idle,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
    /// The answer of the service.
    Busy,
    /// Nothing, because the answer is being written.
    Answered,
}

impl ConnectionPhase {
    const ALL: [Self; 5] = [Self::Idle, Self::Head, Self::Body, Self::Busy, Self::Answered];
}

/// See the module documentation.
pub(in crate::http) struct ConnectionState {
    epoch: Instant,
    phase: AtomicU8,
    since: AtomicU64,
    /// The time at which the client stopped reading the answer, or 0; and the time of its last progress.
    stalled: AtomicU64,
    progress: AtomicU64,
    /// The bytes that it has read since it first stopped.
    taken: AtomicU64,
    /// Whether the connection ends after the current request.
    ending: AtomicBool,
    /// The start of the wait for which the connection was selected to make room, or 0. If it no longer waits for the same
    /// event, it is not closed.
    evicted: AtomicU64,
    /// The number of connections of the port that are being closed to make room.
    leaving: Arc<AtomicUsize>,
    /// Whether the client has closed its side.
    closed: AtomicBool,
    waker: AtomicWaker,
    refusal: Mutex<Option<RefusedHead>>,
    /// The socket, after hyper has finished.
    returned: Mutex<Option<TcpStream>>,
}

impl ConnectionState {
    pub fn new(epoch: Instant, leaving: Arc<AtomicUsize>) -> Self {
        let state = Self {
            epoch,
            phase: AtomicU8::new(ConnectionPhase::Idle as u8),
            since: AtomicU64::new(0),
            stalled: AtomicU64::new(0),
            progress: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            ending: AtomicBool::new(false),
            evicted: AtomicU64::new(0),
            leaving,
            closed: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            refusal: Mutex::new(None),
            returned: Mutex::new(None),
        };
        state.enter(ConnectionPhase::Idle);
        state
    }

    fn now(&self) -> u64 {
        // Never 0, because 0 means that there is no time.
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn instant(&self, millis: u64) -> Instant {
        self.epoch + Duration::from_millis(millis)
    }

    pub(super) fn phase(&self) -> ConnectionPhase {
        ConnectionPhase::ALL
            .into_iter()
            .nth(self.phase.load(Relaxed).into())
            .unwrap_or(ConnectionPhase::Busy)
    }

    pub(super) fn enter(&self, phase: ConnectionPhase) {
        self.since.store(self.now(), Relaxed);
        self.phase.store(phase as u8, Relaxed);
    }

    /// Records that the client does not read the answer.
    pub(super) fn write_stalled(&self) {
        if self.stalled.load(Relaxed) == 0 {
            let now = self.now();
            self.taken.store(0, Relaxed);
            self.progress.store(now, Relaxed);
            self.stalled.store(now, Relaxed);
        }
    }

    /// Records that the client has read bytes of the answer.
    pub(super) fn wrote(&self, bytes: usize) {
        if self.stalled.load(Relaxed) != 0 {
            self.taken.fetch_add(bytes as u64, Relaxed);
            self.progress.store(self.now(), Relaxed);
        }
    }

    /// Records that the client has read the whole answer.
    pub(super) fn flushed(&self) {
        if self.stalled.load(Relaxed) != 0 {
            self.stalled.store(0, Relaxed);
        }
    }

    /// The deadline of the client; `None` if the connection does not wait for it.
    pub(super) fn deadline(&self, patience: &Patience) -> Option<Instant> {
        let stalled = self.stalled.load(Relaxed);
        if stalled != 0 {
            let progress = self.instant(self.progress.load(Relaxed)) + patience.write;
            let rate = patience
                .earned(self.taken.load(Relaxed))
                .map(|earned| self.instant(stalled) + patience.write + earned);
            return Some(rate.map_or(progress, |rate| rate.min(progress)));
        }
        let since = self.instant(self.since.load(Relaxed));
        match self.phase() {
            ConnectionPhase::Idle => Some(since + patience.idle),
            ConnectionPhase::Head => Some(since + patience.header),
            // The service has its own limits.
            ConnectionPhase::Body | ConnectionPhase::Busy | ConnectionPhase::Answered => None,
        }
    }

    /// Whether the client does not read its answer.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.load(Relaxed) != 0
    }

    /// The kind of wait for the client and its start; `None` if the connection does not wait for its client.
    pub fn waits(&self) -> Option<(ClientWait, u64)> {
        if self.is_stalled() {
            return Some((ClientWait::InARequest, self.stalled.load(Relaxed)));
        }
        let since = self.since.load(Relaxed);
        match self.phase() {
            ConnectionPhase::Idle => Some((ClientWait::Idle, since)),
            ConnectionPhase::Head | ConnectionPhase::Body => Some((ClientWait::InARequest, since)),
            ConnectionPhase::Busy | ConnectionPhase::Answered => None,
        }
    }

    /// The milliseconds since a time.
    pub fn millis_since(&self, since: u64) -> u64 {
        self.now().saturating_sub(since)
    }

    /// Ends the connection after the current request.
    pub fn end(&self) {
        self.ending.store(true, Relaxed);
        self.waker.wake();
    }

    /// Whether the connection has to end.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Relaxed)
    }

    /// Closes the connection to make room, if it is still in the same wait.
    pub fn evict(&self, since: u64) {
        if self.evicted.swap(since, Relaxed) == 0 {
            self.leaving.fetch_add(1, Relaxed);
        }
        self.waker.wake();
    }

    /// Whether the connection has to make room now.
    pub fn is_evicted(&self) -> bool {
        let evicted = self.evicted.load(Relaxed);
        evicted != 0 && self.waits().is_some_and(|(_, since)| since == evicted)
    }

    /// Cancels the selection, because the client has sent bytes in the meantime or the connection has ended.
    pub fn stay(&self) {
        if self.evicted.load(Relaxed) != 0 && self.evicted.swap(0, Relaxed) != 0 {
            self.leaving.fetch_sub(1, Relaxed);
        }
    }

    /// Wakes this task when the connection has to end.
    pub(super) fn wake(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    pub(super) fn refuse(&self, refusal: RefusedHead) {
        self.refusal.lock().get_or_insert(refusal);
    }

    pub(super) fn refuse_for(&self, kind: ProblemKind) {
        self.refuse(RefusedHead::new(kind, kind.explanation()));
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refusal.lock().is_some()
    }

    pub(super) fn take_refusal(&self) -> Option<RefusedHead> {
        self.refusal.lock().take()
    }

    pub(super) fn hand_back(&self, stream: TcpStream) {
        *self.returned.lock() = Some(stream);
    }

    pub(super) fn take_stream(&self) -> Option<TcpStream> {
        self.returned.lock().take()
    }

    pub(super) fn client_closed(&self) {
        self.closed.store(true, Relaxed);
    }

    pub(super) fn is_client_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }
}

/// The kind of a wait for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum ClientWait {
    /// Waits for a request.
    Idle,
    /// Waits for the rest of a request, or for the client to read the answer.
    InARequest,
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        header: Duration::from_secs(5),
        idle: Duration::from_mins(1),
        write: Duration::from_secs(10),
        bytes_per_second: 100,
    };

    fn seconds_left(state: &ConnectionState) -> Option<u64> {
        let deadline = state.deadline(&PATIENCE)?;
        Some(
            (deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(500))
                .as_secs(),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_deadline() {
        let state = ConnectionState::new(Instant::now(), Arc::default());
        assert_eq!(seconds_left(&state), Some(60));
        state.enter(ConnectionPhase::Head);
        assert_eq!(seconds_left(&state), Some(5));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(seconds_left(&state), Some(3));
        for phase in [ConnectionPhase::Body, ConnectionPhase::Busy, ConnectionPhase::Answered] {
            state.enter(phase);
            assert_eq!(seconds_left(&state), None, "{phase:?}");
        }
        assert_eq!(state.phase(), ConnectionPhase::Answered);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_must_make_progress_at_a_rate() {
        let state = ConnectionState::new(Instant::now(), Arc::default());
        state.enter(ConnectionPhase::Answered);
        state.write_stalled();
        assert_eq!(seconds_left(&state), Some(10));
        // One byte per second is not enough progress.
        for _ in 0..5 {
            tokio::time::advance(Duration::from_secs(1)).await;
            state.wrote(1);
            state.write_stalled();
        }
        assert_eq!(seconds_left(&state), Some(5));
        // At the lowest rate, the connection is kept.
        state.wrote(500);
        assert_eq!(seconds_left(&state), Some(10));
        state.flushed();
        assert_eq!(seconds_left(&state), None);
    }

    #[tokio::test(start_paused = true)]
    async fn only_connections_that_wait_for_their_client_can_make_room() {
        let state = ConnectionState::new(Instant::now(), Arc::default());
        let waits = || state.waits().map(|(waits, since)| (waits, state.millis_since(since)));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(waits(), Some((ClientWait::Idle, 3000)));
        state.enter(ConnectionPhase::Body);
        assert_eq!(waits(), Some((ClientWait::InARequest, 0)));
        state.enter(ConnectionPhase::Busy);
        assert_eq!(waits(), None);
        state.write_stalled();
        assert_eq!(waits(), Some((ClientWait::InARequest, 0)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_progress_does_not_make_room() {
        let leaving = Arc::<AtomicUsize>::default();
        let state = ConnectionState::new(Instant::now(), Arc::clone(&leaving));
        tokio::time::advance(Duration::from_secs(3)).await;
        let (_, since) = state.waits().unwrap();
        for next in [ConnectionPhase::Head, ConnectionPhase::Body, ConnectionPhase::Busy] {
            state.evict(since);
            state.evict(since);
            assert!(state.is_evicted() || state.phase() != ConnectionPhase::Idle);
            assert_eq!(leaving.load(Relaxed), 1, "a connection is counted once");
            state.enter(next);
            assert!(!state.is_evicted(), "{next:?}");
        }
        state.stay();
        state.stay();
        assert_eq!(leaving.load(Relaxed), 0);
    }
}
