//! The gate limits how many orders are sent at the same time, and pauses while the receiver is down.
//!
//! ```text
//!        consecutive failures, or Retry-After        the pause is over
//! open ────────────────────────────────────▶ paused ─────────────────────▶ probing: one order
//!  ▲                                          ▲                              │  │
//!  │                                          └────── a longer pause ◀─fail──┘  │
//!  └────────────────────────── an answer that shows it is up ◀──────────────────┘
//! ```
//!
//! During a pause, the worker reads nothing from the queue. So a receiver that is down costs one request per
//! pause, and the orders stay where another worker can take them.

use std::time::Duration;

use holdfast_telemetry::metrics::IntGauge;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::answer::ReceiverCondition;
use crate::{FulfilError, backoff::Backoff};

/// The number of consecutive failures that begins a pause.
const FAILURES_MAX: u32 = 5;

pub(super) struct Gate {
    state: Mutex<GateState>,
    /// Only one task waits for room.
    changed: Notify,
    /// The length of a pause, by the number of consecutive pauses.
    pause: Backoff,
    capacity: usize,
    paused: IntGauge,
}

#[derive(Default)]
struct GateState {
    inside: usize,
    failures: u32,
    pauses: u32,
    /// Paused until then, and probing afterwards; `None` if it is open.
    until: Option<Instant>,
    why: String,
}

impl Gate {
    /// A gate for at most `capacity` orders, waiting or sent.
    pub fn new(capacity: usize, pause: Backoff, paused: IntGauge) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), pause, capacity, paused }
    }

    /// Waits until there is room, and returns for how many orders. Cancellation safe. Only one task may wait.
    pub async fn room(&self) -> usize {
        loop {
            let paused_until = {
                let state = self.state.lock();
                match state.until {
                    None if state.inside < self.capacity => return self.capacity - state.inside,
                    Some(until) if until > Instant::now() => Some(until),
                    Some(_) if state.inside == 0 => return 1,
                    // Full: wait until an order leaves.
                    _ => None,
                }
            };
            match paused_until {
                Some(until) => {
                    // At most until the end of the pause.
                    let _ = tokio::time::timeout_at(until, self.changed.notified()).await;
                }
                None => self.changed.notified().await,
            }
        }
    }

    /// Takes an order in. Dropping the result makes room for the next one.
    pub fn enter(&self) -> Inside<'_> {
        self.state.lock().inside += 1;
        Inside(self)
    }

    /// Checks whether an order may be sent.
    ///
    /// # Errors
    /// A pause began while the order waited.
    pub fn check(&self) -> Result<(), FulfilError> {
        let state = self.state.lock();
        match state.until.and_then(|until| until.checked_duration_since(Instant::now())) {
            Some(left) if !left.is_zero() => Err(FulfilError::Unavailable {
                reason: format!("not sent because the receiver is down: {}", state.why),
                after: Some(left),
            }),
            _ => Ok(()),
        }
    }

    /// Records what a request, which was `sent` at that time, shows about the receiver. `why` describes a failure.
    pub fn record(
        &self,
        condition: ReceiverCondition,
        sent: Instant,
        why: impl FnOnce() -> String,
    ) {
        match condition {
            ReceiverCondition::Up => self.up(),
            ReceiverCondition::Down(after) => self.down(after, sent, why),
        }
    }

    fn up(&self) {
        let mut state = self.state.lock();
        state.failures = 0;
        state.pauses = 0;
        if state.until.take().is_some() {
            drop(state);
            tracing::info!("the webhook receiver accepts orders again");
            self.paused.set(0);
            self.changed.notify_one();
        }
    }

    fn down(&self, after: Option<Duration>, sent: Instant, why: impl FnOnce() -> String) {
        let mut state = self.state.lock();
        state.failures = state.failures.saturating_add(1);
        match state.until {
            // It was sent before the pause, so it shows nothing new.
            Some(until) if sent < until => return,
            None if after.is_none() && state.failures < FAILURES_MAX => return,
            _ => {}
        }
        let was_open = state.until.is_none();
        state.pauses = state.pauses.saturating_add(1);
        let pause = self.pause.after(state.pauses).max(after.unwrap_or_default());
        state.until = Some(Instant::now() + pause);
        state.why = why();
        if was_open {
            self.paused.set(1);
            tracing::warn!(
                error = state.why,
                "the webhook receiver does not accept orders; they wait until it does"
            );
        }
        drop(state);
        self.changed.notify_one();
    }
}

/// An order between its claim and its outcome.
pub(super) struct Inside<'a>(&'a Gate);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.state.lock().inside -= 1;
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Gate {
        let pause = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(30) };
        Gate::new(10, pause, IntGauge::new("paused", "test").unwrap())
    }

    fn fail(gate: &Gate, sent: Instant) {
        gate.record(ReceiverCondition::Down(None), sent, || "asleep".to_owned());
    }

    /// How long there is no room.
    async fn paused_for(gate: &Gate) -> Duration {
        let begun = Instant::now();
        assert_eq!(gate.room().await, 1, "probing");
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn the_gate_admits_its_free_capacity() {
        let gate = gate();
        let mut inside: Vec<_> = (0..10).map(|_| gate.enter()).collect();
        let full = tokio::time::timeout(Duration::from_secs(9), gate.room()).await;
        assert!(full.is_err());
        inside.truncate(7);
        assert_eq!(gate.room().await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn consecutive_failures_close_the_gate_and_one_answer_opens_it() {
        let gate = gate();
        for _ in 0..20 {
            (1..FAILURES_MAX).for_each(|_| fail(&gate, Instant::now()));
            gate.record(ReceiverCondition::Up, Instant::now(), String::new);
        }
        assert_eq!(gate.room().await, 10, "never enough consecutive failures");

        let sent = Instant::now();
        (0..FAILURES_MAX).for_each(|_| fail(&gate, sent));
        let refusal = gate.check().unwrap_err();
        assert!(refusal.to_string().contains("asleep"), "{refusal}");
        // Requests that were sent before change nothing.
        (0..100).for_each(|_| fail(&gate, sent));
        let pause = paused_for(&gate).await;
        assert!((50..=1010).contains(&pause.as_millis()), "{pause:?}");
        assert_eq!(gate.check(), Ok(()), "probing");
        gate.record(ReceiverCondition::Up, Instant::now(), String::new);
        assert_eq!(gate.room().await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_up_to_their_maximum_while_all_requests_fail() {
        let gate = gate();
        (0..FAILURES_MAX).for_each(|_| fail(&gate, Instant::now()));
        let mut longest = Duration::ZERO;
        let begun = Instant::now();
        let mut requests = 0;
        while begun.elapsed() < Duration::from_hours(1) {
            longest = longest.max(paused_for(&gate).await);
            let _inside = gate.enter();
            fail(&gate, Instant::now());
            requests += 1;
        }
        assert!(longest <= Duration::from_millis(30_010), "{longest:?}");
        assert!((120..1000).contains(&requests), "{requests} in an hour");
    }

    #[tokio::test(start_paused = true)]
    async fn probing_sends_one_order_at_a_time() {
        let gate = gate();
        (0..FAILURES_MAX).for_each(|_| fail(&gate, Instant::now()));
        paused_for(&gate).await;
        let probe = gate.enter();
        let second = tokio::time::timeout(Duration::from_mins(1), gate.room()).await;
        assert!(second.is_err());
        drop(probe);
        assert_eq!(gate.room().await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_closes_the_gate_for_that_time() {
        let gate = gate();
        let after = Duration::from_secs(20);
        gate.record(ReceiverCondition::Down(Some(after)), Instant::now(), String::new);
        let pause = paused_for(&gate).await;
        assert!(pause >= after && pause < after + Duration::from_secs(1), "{pause:?}");
    }
}
