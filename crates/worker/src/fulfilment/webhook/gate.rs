//! The gate limits how many orders are sent at the same time, and pauses while the receiver is down.
//!
//! Orders that fail by themselves must not keep others from being sent. So orders that have failed before have a lane
//! of their own, with a quarter of the connections, and the two lanes pause independently:
//!
//! ```text
//!        consecutive failures, or Retry-After        the pause is over
//! open ────────────────────────────────────▶ paused ─────────────────────▶ probing: some orders
//!  ▲                                          ▲                              │  │
//!  │                                          └────── a longer pause ◀─fail──┘  │
//!  └──────────────── an answer to any order that shows it is up ◀───────────────┘
//! ```
//!
//! While the first lane pauses, the worker reads nothing from the queue. So a receiver that is down costs a few requests
//! per pause, and the orders stay where another worker can take them. Orders of the other lane that find it paused or
//! full go back to the queue unsent, so that those behind them are found.
//!
//! Requests that hang are given up early while others wait, except for a quarter of the connections.

mod lane;
mod record;

use std::time::Duration;

use holdfast_telemetry::metrics::IntGauge;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    time::Instant,
};

use super::answer::ReceiverCondition;
use crate::{FulfilError, backoff::Backoff};
use lane::Lane;
use record::AnswerRecord;

pub(super) use lane::LaneKind;

/// The number of consecutive failures that begins a pause, if the receiver cannot be reached or the orders have failed
/// before. Otherwise, as many orders as there are connections must fail, and at least this many.
const FAILURES_MAX: u32 = 5;
/// One in this many connections is for orders that have failed before, and one in this many may hang.
const SHARE: usize = 4;
/// How often a request that hangs checks whether it must be given up.
const GIVE_UP_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug)]
pub(super) struct GateLimits {
    /// The most requests at the same time.
    pub connections: usize,
    /// The most orders inside, waiting or sent, whatever `connections` is.
    pub orders: usize,
    /// The time limit of a request.
    pub timeout: Duration,
    /// The length of a pause, by the number of consecutive pauses.
    pub pause: Backoff,
}

pub(super) struct Gate {
    state: Mutex<GateState>,
    /// Only one task waits for room.
    changed: Notify,
    connections: Semaphore,
    /// The connections for orders that have failed before.
    connections_again: Semaphore,
    /// The most requests that may hang while others wait.
    hanging_max: usize,
    limits: GateLimits,
    paused: IntGauge,
}

struct GateState {
    first: Lane,
    again: Lane,
    record: AnswerRecord,
    /// Consecutive failures of which nothing reached the receiver.
    unreachable: u32,
    /// Orders of the first lane that wait for a connection.
    waiting: usize,
    /// Requests of the first lane that hang.
    hanging: usize,
    why: String,
}

impl GateState {
    fn lane(&mut self, kind: LaneKind) -> &mut Lane {
        match kind {
            LaneKind::First => &mut self.first,
            LaneKind::Again => &mut self.again,
        }
    }

    fn is_open(&self) -> bool {
        self.first.is_open() && self.again.is_open()
    }
}

impl Gate {
    pub fn new(limits: GateLimits, paused: IntGauge) -> Self {
        let connections = limits.connections.min(limits.orders).max(1);
        let share = (connections / SHARE).max(1);
        let again = connections.min(limits.orders / SHARE).max(1);
        // Twice as many orders as connections, so that no connection waits for the next order.
        let first = (connections * 2).min(limits.orders.saturating_sub(again)).max(1);
        let failures_max = u32::try_from(connections).unwrap_or(u32::MAX).max(FAILURES_MAX);
        Self {
            state: Mutex::new(GateState {
                first: Lane::new(first, failures_max, (connections / 2).max(1)),
                again: Lane::new(again, FAILURES_MAX, 1),
                record: AnswerRecord::default(),
                unreachable: 0,
                waiting: 0,
                hanging: 0,
                why: String::new(),
            }),
            changed: Notify::new(),
            connections: Semaphore::new(connections),
            connections_again: Semaphore::new(share),
            hanging_max: share,
            limits,
            paused,
        }
    }

    /// Waits until there is room, and returns for how many orders. Cancellation safe. Only one task may wait.
    pub async fn room(&self) -> usize {
        loop {
            let pause_left = {
                let state = self.state.lock();
                let lane = &state.first;
                let pause_left = lane.pause_left();
                // Probes that hang make room for others.
                let hanging = if lane.is_probing() { state.hanging } else { 0 };
                let room = lane.limit().saturating_sub(lane.inside.saturating_sub(hanging));
                let room = room.min(lane.capacity.saturating_sub(lane.inside));
                if pause_left.is_none() && room > 0 {
                    return room;
                }
                pause_left
            };
            match pause_left {
                Some(left) => {
                    // At most until the end of the pause.
                    let _ = tokio::time::timeout(left, self.changed.notified()).await;
                }
                // Full: wait until an order leaves.
                None => self.changed.notified().await,
            }
        }
    }

    /// Takes an order in, and waits for its turn to be sent. Dropping the result, or the call, makes room for the next.
    ///
    /// # Errors
    /// The order is not to be sent now, because of a pause or of other orders that have failed before.
    pub async fn turn(&self, kind: LaneKind) -> Result<SendTurn<'_>, FulfilError> {
        let inside = self.enter(kind)?;
        let waiting = WaitingForConnection::begin(self, kind);
        let again = match kind {
            LaneKind::First => None,
            // The semaphores are never closed.
            LaneKind::Again => self.connections_again.acquire().await.ok(),
        };
        let connection = self.connections.acquire().await.ok();
        drop(waiting);
        self.check(kind)?;
        Ok(SendTurn { inside, sent: Instant::now(), hangs: false, _permits: [again, connection] })
    }

    fn enter(&self, kind: LaneKind) -> Result<Inside<'_>, FulfilError> {
        let mut state = self.state.lock();
        // How many orders of the first lane enter is limited by `room`.
        if kind == LaneKind::Again && state.again.inside >= state.again.limit() {
            return Err(FulfilError::Unavailable {
                reason: "not sent because other orders that have failed before come first"
                    .to_owned(),
                after: None,
            });
        }
        state.lane(kind).inside += 1;
        drop(state);
        let inside = Inside { gate: self, kind };
        self.check_again(kind)?;
        Ok(inside)
    }

    /// Orders that have failed before do not wait for the end of a pause.
    fn check_again(&self, kind: LaneKind) -> Result<(), FulfilError> {
        if kind == LaneKind::Again { self.check(kind) } else { Ok(()) }
    }

    fn check(&self, kind: LaneKind) -> Result<(), FulfilError> {
        let mut state = self.state.lock();
        let Some(left) = state.lane(kind).pause_left() else { return Ok(()) };
        Err(FulfilError::Unavailable {
            reason: format!("not sent because the receiver is down: {}", state.why),
            after: (kind == LaneKind::First).then_some(left),
        })
    }

    /// Whether a request that hangs is given up. It no longer counts as hanging then.
    fn gives_up(&self) -> bool {
        let mut state = self.state.lock();
        let needed = state.waiting > 0 || state.first.is_probing();
        let gives_up = needed && state.hanging > self.hanging_max;
        state.hanging -= usize::from(gives_up);
        gives_up
    }

    /// Records what an order's request shows about the receiver. `why` describes a failure. Returns whether the failure is
    /// the order's own, because the receiver fulfils the others.
    pub fn record(
        &self,
        turn: &SendTurn<'_>,
        condition: ReceiverCondition,
        why: impl FnOnce() -> String,
    ) -> bool {
        let (kind, sent) = (turn.inside.kind, turn.sent);
        let mut state = self.state.lock();
        let was_open = state.is_open();
        let own = match condition {
            ReceiverCondition::Up => {
                state.record.up(kind == LaneKind::First, sent);
                state.unreachable = 0;
                // An answer opens both lanes.
                let opened = [state.first.open(), state.again.open()];
                if opened.contains(&true) {
                    drop(state);
                    tracing::info!("the webhook receiver accepts orders again");
                    self.paused.set(0);
                    self.changed.notify_one();
                }
                return false;
            }
            ReceiverCondition::Down(after) => {
                state.unreachable = 0;
                let own = after.is_none() && state.record.fulfils_others(sent);
                state.record.down(kind == LaneKind::First);
                self.failed(&mut state, kind, sent, after);
                own
            }
            ReceiverCondition::Unreachable => {
                state.unreachable = state.unreachable.saturating_add(1);
                if state.unreachable >= FAILURES_MAX || !state.lane(kind).is_open() {
                    state.first.unreachable(sent, self.limits.pause);
                    state.again.unreachable(sent, self.limits.pause);
                }
                false
            }
        };
        if was_open && !state.is_open() {
            state.why = why();
            self.paused.set(1);
            tracing::warn!(
                error = state.why,
                "the webhook receiver does not accept orders; they wait until it does"
            );
        }
        drop(state);
        self.changed.notify_one();
        own
    }

    fn failed(
        &self,
        state: &mut GateState,
        kind: LaneKind,
        sent: Instant,
        after: Option<Duration>,
    ) {
        let pause = self.limits.pause;
        // If other orders succeeded meanwhile, the failure shows nothing about the receiver.
        let others_succeeded = state.record.up_since(sent);
        match after {
            // For an order that has not failed before, the receiver limits the rate of requests.
            Some(after) if kind == LaneKind::First => {
                state.first.pause(sent, pause, after);
                state.again.pause(sent, pause, after);
            }
            _ if others_succeeded => {}
            Some(after) => state.again.pause(sent, pause, after),
            None => state.lane(kind).failed(sent, pause),
        }
    }
}

/// An order between its claim and its outcome.
struct Inside<'a> {
    gate: &'a Gate,
    kind: LaneKind,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.gate.state.lock().lane(self.kind).inside -= 1;
        self.gate.changed.notify_one();
    }
}

/// An order that waits for a connection.
struct WaitingForConnection<'a>(Option<&'a Gate>);

impl<'a> WaitingForConnection<'a> {
    fn begin(gate: &'a Gate, kind: LaneKind) -> Self {
        let gate = (kind == LaneKind::First).then_some(gate);
        if let Some(gate) = gate {
            gate.state.lock().waiting += 1;
        }
        Self(gate)
    }
}

impl Drop for WaitingForConnection<'_> {
    fn drop(&mut self) {
        if let Some(gate) = self.0 {
            gate.state.lock().waiting -= 1;
        }
    }
}

/// The right to send an order now.
pub(super) struct SendTurn<'a> {
    inside: Inside<'a>,
    sent: Instant,
    /// Whether it is counted in `hanging`.
    hangs: bool,
    _permits: [Option<SemaphorePermit<'a>>; 2],
}

impl SendTurn<'_> {
    /// Waits until the request hangs and must be given up, so that other orders can be sent. Orders that have failed before
    /// have their full time: they cannot use more than their share of the connections. Cancellation safe.
    pub async fn given_up(&mut self) {
        let gate = self.inside.gate;
        if self.inside.kind == LaneKind::Again {
            return std::future::pending().await;
        }
        loop {
            let after = gate.state.lock().record.hangs_after(gate.limits.timeout);
            let due = self.sent + after;
            if due <= Instant::now() {
                break;
            }
            tokio::time::sleep_until(due).await;
        }
        gate.state.lock().hanging += 1;
        self.hangs = true;
        gate.changed.notify_one();
        while !gate.gives_up() {
            tokio::time::sleep(GIVE_UP_INTERVAL).await;
        }
        self.hangs = false;
    }
}

impl Drop for SendTurn<'_> {
    fn drop(&mut self) {
        if self.hangs {
            self.inside.gate.state.lock().hanging -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
