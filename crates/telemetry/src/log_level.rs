//! What is logged. It can be changed while the process runs, through the admin port of the API or by a signal.

use std::{io, sync::OnceLock};

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::{known_crates, settings::MustBe};

/// The longest text that is accepted.
const MAX_BYTES: usize = 1024;

static HANDLE: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// A filter of log lines that [`set`] replaces.
pub(crate) fn changeable(filter: EnvFilter) -> reload::Layer<EnvFilter, Registry> {
    let (filter, handle) = reload::Layer::new(filter);
    // Only `init` calls this, and it succeeds once.
    let _ = HANDLE.set(handle);
    filter
}

/// Parses a level or directives.
///
/// # Errors
/// The text is neither, or names a crate that is not part of this program: such a directive would match nothing and switch
/// everything else off.
pub(crate) fn parse(text: &str) -> Result<EnvFilter, MustBe> {
    let must_be = || {
        MustBe::new(
            "must be a level (error, warn, info, debug, trace, off) or directives such as \
             info,holdfast_api=debug",
        )
    };
    if text.trim().is_empty() {
        return Err(must_be());
    }
    let filter = EnvFilter::try_new(text).map_err(|_| must_be())?;
    for directive in directives(text) {
        let target = directive.split(['=', '[']).next().unwrap_or_default().trim();
        let is_level = target.parse::<tracing::level_filters::LevelFilter>().is_ok();
        // A single word is usually a level, so it must be a complete crate name.
        let prefix = directive.contains('=');
        if !target.is_empty() && !is_level && !known_crates::has(target, prefix) {
            return Err(MustBe::new(format!(
                "must be a level (error, warn, info, debug, trace, off) or directives with crates \
                 of this program, such as info,holdfast_api=debug; there is no {target:?}"
            )));
        }
    }
    Ok(filter)
}

/// Splits at commas outside the fields of a span.
fn directives(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    text.split(move |c| {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            _ => {}
        }
        c == ',' && depth <= 0
    })
    .map(str::trim)
    .filter(|directive| !directive.is_empty())
}

/// The current filter; `None` before logs are set up.
pub fn get() -> Option<String> {
    HANDLE.get()?.with_current(ToString::to_string).ok()
}

/// Checks a text for [`set`].
///
/// # Errors
/// What the text must be.
pub fn check(text: &str) -> Result<(), MustBe> {
    if text.len() > MAX_BYTES {
        return Err(MustBe::new(format!("must have at most {MAX_BYTES} bytes")));
    }
    parse(text.trim()).map(drop)
}

/// Changes what is logged until the process ends.
///
/// # Errors
/// The text is neither a level nor directives, or is too long, or logs are not set up.
pub fn set(text: &str) -> Result<(), MustBe> {
    let text = text.trim();
    check(text)?;
    let filter = parse(text)?;
    let before = get();
    HANDLE
        .get()
        .and_then(|handle| handle.reload(filter).ok())
        .ok_or_else(|| MustBe::new("must wait until logs are set up"))?;
    tracing::warn!(before, now = text, "the log level was changed");
    Ok(())
}

/// Changes what is logged on signals, until it is dropped: SIGUSR1 also logs our own crates at `debug`, SIGUSR2 returns to
/// `settings`. Must be called within a tokio runtime.
///
/// # Errors
/// The signal handlers cannot be installed.
pub fn follow_signals(settings: &str) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let (mut more, mut again) =
        (signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?);
    let usual = settings.to_owned();
    Ok(async move {
        loop {
            let text = tokio::select! {
                _ = more.recv() => format!("{usual},holdfast=debug"),
                _ = again.recv() => usual.clone(),
            };
            if let Err(error) = set(&text) {
                tracing::error!(%error, "the log level was not changed");
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_matches_nothing_is_refused() {
        for text in [
            "info",
            "OFF",
            "info,holdfast_api=debug",
            "warn,holdfast=debug",
            "holdfast_worker::fulfilment=trace,info",
            "hyper=debug",
            "hyper_util=info,sqlx::query=debug",
            "[request{id=1}]=debug",
            "holdfast_api[batch{size=3}]=trace",
            "info,",
        ] {
            assert!(parse(text).is_ok(), "{text}");
        }
        for text in [
            "",
            " ",
            "debgu",
            "trac",
            "infoo",
            "info,debgu",
            "holdfastapi=debug",
            "holdfast_apii=debug",
            "warn,hyper=loud",
            "info,nothing_of_ours::x=debug",
            "holdfast-api=debug",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
