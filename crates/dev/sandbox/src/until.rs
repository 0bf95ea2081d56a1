//! Waiting in tests: for the thing itself, and with one limit.
#![allow(clippy::panic)] // this is how a test fails

use std::fmt::Display;
use std::panic::Location;
use std::time::{Duration, Instant};

/// How long a test waits for what must happen: far longer than it takes, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(40);

/// What a condition answers each time it is asked: `bool`, `Option` or `Result`.
pub trait Progress {
    /// What the wait is for.
    type Value;

    /// The value, or why it is not there yet.
    ///
    /// # Errors
    /// It is not there yet.
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

/// Asks until the answer is `true`, `Some` or `Ok`, and returns what is in it.
///
/// # Panics
/// After [`PATIENCE`], with `what` and the last `Err`.
#[track_caller]
pub fn until<P: Progress>(
    what: &str,
    condition: impl AsyncFnMut() -> P,
) -> impl Future<Output = P::Value> {
    until_or(what, condition, String::new)
}

/// As [`until`]; where it fails, it also says `context`, such as a log.
///
/// # Panics
/// As [`until`].
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
