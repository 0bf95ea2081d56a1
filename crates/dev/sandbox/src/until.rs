//! Waiting in tests for a condition, with one time limit.
#![allow(clippy::panic)] // this is how a test fails

use std::fmt::Display;
use std::panic::Location;
use std::time::{Duration, Instant};

/// The time limit of a wait in tests: much longer than anything takes, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(40);

/// The result of a condition: `bool`, `Option` or `Result`.
pub trait Progress {
    /// The value that the wait returns.
    type Value;

    /// The value, or the reason why it does not exist yet.
    ///
    /// # Errors
    /// The condition is not met yet.
    fn outcome(self) -> Result<Self::Value, String>;
}

impl Progress for bool {
    type Value = ();

    fn outcome(self) -> Result<(), String> {
        if self { Ok(()) } else { Err(String::new()) }
    }
}

impl<T> Progress for Option<T> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.ok_or_else(String::new)
    }
}

impl<T, E: Display> Progress for Result<T, E> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.map_err(|why| why.to_string())
    }
}

/// Checks the condition repeatedly until it is `true`, `Some` or `Ok`, and returns the value.
///
/// # Panics
/// The condition is not met within [`PATIENCE`]. The message contains `what` and the last `Err`.
#[track_caller]
pub fn until<P: Progress>(
    what: &str,
    condition: impl AsyncFnMut() -> P,
) -> impl Future<Output = P::Value> {
    until_or(what, condition, String::new)
}

/// Like [`until`]. If it fails, the message also contains `context`, such as a log.
///
/// # Panics
/// See [`until`].
#[track_caller]
pub fn until_or<P: Progress>(
    what: &str,
    mut condition: impl AsyncFnMut() -> P,
    context: impl FnOnce() -> String,
) -> impl Future<Output = P::Value> {
    let caller = Location::caller();
    async move {
        let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            match condition().await.outcome() {
                Ok(value) => return value,
                Err(why) if begun.elapsed() > PATIENCE => {
                    let context = context();
                    panic!("{caller}: not within {PATIENCE:?}: {what}\n{why}\n{context}");
                }
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
