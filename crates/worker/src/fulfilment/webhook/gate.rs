//! How many orders go to the receiver: a bounded number, and none while it is down.
//!
//! ```text
//!        failures in a row, or Retry-After          the pause is over
//! open ────────────────────────────────────▶ shut ─────────────────────▶ ajar: one order
//!  ▲                                          ▲                            │  │
//!  │                                          └────── a longer pause ◀─fail┘  │
//!  └────────────────────────── any answer that shows it is well ◀─────────────┘
//! ```
//!
//! While it is shut the worker reads nothing from the queue, so a receiver that is down costs it one
//! request now and then, and the orders stay where another worker can take them.

use std::time::Duration;

use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::{sync::Notify, time::Instant};

use super::answer::Condition;
use crate::{FulfilError, backoff::Backoff};

/// So many failures in a row, without a good answer in between, shut the gate.
const FAILURES_MAX: u32 = 5;

/// The way to the receiver.
pub(super) struct Gate {
    state: Mutex<State>,
    /// Only one task waits for room.
    changed: Notify,
    /// How long it stays shut, by how often it was shut in a row.
    pause: Backoff,
    capacity: usize,
    shut: IntGauge,
}

#[derive(Default)]
struct State {
    inside: usize,
    failures: u32,
    pauses: u32,
    /// Shut until then, then ajar; `None` if it is open.
    until: Option<Instant>,
    why: String,
}

impl Gate {
    /// A gate for at most `capacity` orders at once, in hand or on their way.
    pub fn new(capacity: usize, pause: Backoff, shut: IntGauge) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), pause, capacity, shut }
    }

    /// Waits until there is room, and says for how many orders. Safe to cancel. Only one task may
    /// wait.
    pub async fn room(&self) -> usize {
        loop {
            let shut_until = {
                let state = self.state.lock();
                match state.until {
                    None if state.inside < self.capacity => return self.capacity - state.inside,
                    Some(until) if until > Instant::now() => Some(until),
                    Some(_) if state.inside == 0 => return 1,
                    // Until somebody leaves.
                    _ => None,
                }
            };
            match shut_until {
                Some(until) => {
                    // Not beyond the pause, whatever happens or does not.
                    let _ = tokio::time::timeout_at(until, self.changed.notified()).await;
                }
                None => self.changed.notified().await,
            }
        }
    }

    /// An order is here. Dropping what it gets makes room for the next.
    pub fn enter(&self) -> Inside<'_> {
        self.state.lock().inside += 1;
        Inside(self)
    }

    /// Whether an order that is here may be sent.
    ///
    /// # Errors
    /// The gate was shut while the order waited for its turn.
    pub fn check(&self) -> Result<(), FulfilError> {
        let state = self.state.lock();
        match state.until.and_then(|until| until.checked_duration_since(Instant::now())) {
            Some(left) if !left.is_zero() => Err(FulfilError::Unavailable {
                reason: format!("not sent, for the receiver is down: {}", state.why),
                after: Some(left),
            }),
            _ => Ok(()),
        }
    }

    /// What a request that was `sent` then tells about the receiver; `why`, if it failed.
    pub fn heard(&self, condition: Condition, sent: Instant, why: impl FnOnce() -> String) {
        match condition {
            Condition::Well => self.well(),
            Condition::Unwell(after) => self.unwell(after, sent, why),
        }
    }

    fn well(&self) {
        let mut state = self.state.lock();
        state.failures = 0;
        state.pauses = 0;
        if state.until.take().is_some() {
            drop(state);
            tracing::info!("the webhook's receiver takes orders again");
            self.shut.set(0);
            self.changed.notify_one();
        }
    }

    fn unwell(&self, after: Option<Duration>, sent: Instant, why: impl FnOnce() -> String) {
        let mut state = self.state.lock();
        state.failures = state.failures.saturating_add(1);
        match state.until {
            // On its way when the gate was shut: nothing new.
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
            self.shut.set(1);
            tracing::warn!(
                error = state.why,
                "the webhook's receiver does not take orders; they wait until it does"
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
        Gate::new(10, pause, IntGauge::new("shut", "test").unwrap())
    }

    fn fail(gate: &Gate, sent: Instant) {
        gate.heard(Condition::Unwell(None), sent, || "asleep".to_owned());
    }

    /// How long there is no room.
    async fn shut_for(gate: &Gate) -> Duration {
        let begun = Instant::now();
        assert_eq!(gate.room().await, 1, "ajar for one");
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn its_room_is_what_is_not_taken() {
        let gate = gate();
        let mut inside: Vec<_> = (0..10).map(|_| gate.enter()).collect();
        let full = tokio::time::timeout(Duration::from_secs(9), gate.room()).await;
        assert!(full.is_err());
        inside.truncate(7);
        assert_eq!(gate.room().await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_shut_it_and_one_answer_opens_it() {
        let gate = gate();
        for _ in 0..20 {
            (1..FAILURES_MAX).for_each(|_| fail(&gate, Instant::now()));
            gate.heard(Condition::Well, Instant::now(), String::new);
        }
        assert_eq!(gate.room().await, 10, "never so many in a row");

        let sent = Instant::now();
        (0..FAILURES_MAX).for_each(|_| fail(&gate, sent));
        let refusal = gate.check().unwrap_err();
        assert!(refusal.to_string().contains("asleep"), "{refusal}");
        // Requests that were on their way change nothing.
        (0..100).for_each(|_| fail(&gate, sent));
        let pause = shut_for(&gate).await;
        assert!((50..=1010).contains(&pause.as_millis()), "{pause:?}");
        assert_eq!(gate.check(), Ok(()), "ajar");
        gate.heard(Condition::Well, Instant::now(), String::new);
        assert_eq!(gate.room().await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_up_to_their_maximum_while_nothing_else_is_heard() {
        let gate = gate();
        (0..FAILURES_MAX).for_each(|_| fail(&gate, Instant::now()));
        let mut longest = Duration::ZERO;
        let begun = Instant::now();
        let mut requests = 0;
        while begun.elapsed() < Duration::from_hours(1) {
            longest = longest.max(shut_for(&gate).await);
            let _inside = gate.enter();
            fail(&gate, Instant::now());
            requests += 1;
        }
        assert!(longest <= Duration::from_millis(30_010), "{longest:?}");
        assert!((120..1000).contains(&requests), "{requests} in an hour");
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_ajar_for_one_order_at_a_time() {
        let gate = gate();
        (0..FAILURES_MAX).for_each(|_| fail(&gate, Instant::now()));
        shut_for(&gate).await;
        let probe = gate.enter();
        let second = tokio::time::timeout(Duration::from_mins(1), gate.room()).await;
        assert!(second.is_err());
        drop(probe);
        assert_eq!(gate.room().await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_says_how_long_is_left_alone_at_once() {
        let gate = gate();
        let after = Duration::from_secs(20);
        gate.heard(Condition::Unwell(Some(after)), Instant::now(), String::new);
        let pause = shut_for(&gate).await;
        assert!(pause >= after && pause < after + Duration::from_secs(1), "{pause:?}");
    }
}
