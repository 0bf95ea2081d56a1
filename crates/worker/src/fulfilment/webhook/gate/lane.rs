//! A lane of the gate: how many orders of one kind are inside, and whether they pause.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;

/// Which orders a lane is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum LaneKind {
    /// Orders that have not failed before.
    First,
    /// Orders that have failed before: perhaps because of the receiver, perhaps because of the order.
    Again,
}

#[derive(Debug)]
pub(super) struct Lane {
    /// The most orders inside, waiting or sent.
    pub capacity: usize,
    pub inside: usize,
    /// The number of consecutive failures that begins a pause.
    failures_max: u32,
    /// The most orders that are sent after a pause, until one succeeds.
    probes: usize,
    failures: u32,
    pauses: u32,
    /// Paused until then, and probing afterwards; `None` if it is open.
    until: Option<Instant>,
    /// Whether nothing reached the receiver. Then only one order is sent after a pause.
    unreachable: bool,
}

impl Lane {
    pub fn new(capacity: usize, failures_max: u32, probes: usize) -> Self {
        Self {
            capacity,
            inside: 0,
            failures_max,
            probes,
            failures: 0,
            pauses: 0,
            until: None,
            unreachable: false,
        }
    }

    /// How long the pause still takes.
    pub fn pause_left(&self) -> Option<Duration> {
        let left = self.until?.checked_duration_since(Instant::now())?;
        (!left.is_zero()).then_some(left)
    }

    pub fn is_open(&self) -> bool {
        self.until.is_none()
    }

    /// Whether its pause is over and no order has succeeded since.
    pub fn is_probing(&self) -> bool {
        !self.is_open() && self.pause_left().is_none()
    }

    /// The most orders that may be inside now.
    pub fn limit(&self) -> usize {
        match self.until {
            None => self.capacity,
            Some(_) if self.unreachable => 1,
            Some(_) => self.probes.min(self.capacity),
        }
    }

    /// Opens it. Returns whether it was not open.
    pub fn open(&mut self) -> bool {
        (self.failures, self.pauses, self.unreachable) = (0, 0, false);
        self.until.take().is_some()
    }

    /// Counts a failure of a request that was sent at that time.
    pub fn failed(&mut self, sent: Instant, pause: Backoff) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.failures_max || self.until.is_some() {
            self.unreachable = false;
            self.pause(sent, pause, Duration::ZERO);
        }
    }

    /// Begins a pause because the receiver cannot be reached.
    pub fn unreachable(&mut self, sent: Instant, pause: Backoff) {
        self.unreachable = true;
        self.pause(sent, pause, Duration::ZERO);
    }

    /// Begins a pause of at least `least`, unless the request was sent before the current pause is over, because it
    /// then shows nothing new.
    pub fn pause(&mut self, sent: Instant, pause: Backoff, least: Duration) {
        if self.until.is_some_and(|until| sent < until) {
            return;
        }
        self.pauses = self.pauses.saturating_add(1);
        self.until = Some(Instant::now() + pause.after(self.pauses).max(least));
    }
}
