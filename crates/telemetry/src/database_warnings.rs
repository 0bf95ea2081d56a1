//! Warnings that PostgreSQL sends with its answers.
//!
//! sqlx does not return them: it emits an event and continues. [`Heard`] is a layer that receives these events,
//! whatever the log level. [`heard`] tells the caller whether one was emitted while it polled.

use std::cell::Cell;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    Layer, filter, layer::Context, layer::SubscriberExt as _, registry::LookupSpan,
    util::SubscriberInitExt as _,
};

/// The target of sqlx's events.
const TARGET: &str = "sqlx::postgres::notice";

thread_local! {
    static HEARD: Cell<bool> = const { Cell::new(false) };
}

/// Runs `poll`. Returns whether the database sent a warning during it. Without the [`layer`], no warnings are received.
pub fn heard<T>(poll: impl FnOnce() -> T) -> (T, bool) {
    HEARD.set(false);
    let result = poll();
    (result, HEARD.get())
}

/// Receives the warnings. [`init`](crate::init) installs it.
pub(crate) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    let warnings =
        filter::filter_fn(|about| about.target() == TARGET && *about.level() <= Level::WARN);
    Heard.with_filter(warnings.with_max_level_hint(filter::LevelFilter::WARN))
}

/// Installs the layer alone, for tests of crates that set up no logs.
#[doc(hidden)]
pub fn listen() {
    // Another test of the same process may have installed it.
    let _ = tracing_subscriber::registry().with(layer()).try_init();
}

struct Heard;

impl<S: Subscriber> Layer<S> for Heard {
    fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
        HEARD.set(true);
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::{EnvFilter, Layer as _, Registry, layer::SubscriberExt as _};

    use super::{heard, layer};

    #[test]
    fn only_warnings_of_the_database_are_received_even_if_nothing_is_logged() {
        let lines = tracing_subscriber::fmt::layer().with_filter(EnvFilter::new("off"));
        let subscriber = Registry::default().with(lines).with(layer());
        tracing::subscriber::with_default(subscriber, || {
            assert!(!heard(|| {}).1);
            let notice = || tracing::info!(target: "sqlx::postgres::notice", "skipping");
            assert!(!heard(notice).1);
            assert!(!heard(|| tracing::warn!("of ours")).1);
            let warning = || tracing::warn!(target: "sqlx::postgres::notice", "canceling");
            assert!(heard(warning).1);
            assert!(!heard(|| {}).1, "the warning was in the previous poll");
        });
    }
}
