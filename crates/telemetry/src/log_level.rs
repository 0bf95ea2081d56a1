//! What is logged, changeable while the process runs.

use std::sync::OnceLock;

use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::settings::MustBe;

/// The longest text that is taken.
const MAX_BYTES: usize = 1024;

static HANDLE: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// A filter of log lines that [`set`] replaces.
pub(crate) fn changeable(filter: EnvFilter) -> reload::Layer<EnvFilter, Registry> {
    let (filter, handle) = reload::Layer::new(filter);
    // Only `init` calls this, and it succeeds once.
    let _ = HANDLE.set(handle);
    filter
}

/// Reads a level or directives.
///
/// # Errors
/// What is neither.
pub(crate) fn parse(text: &str) -> Result<EnvFilter, MustBe> {
    EnvFilter::try_new(text).map_err(|_| {
        MustBe::new(
            "must be a level (error, warn, info, debug, trace) or directives such as \
             info,holdfast_api=debug",
        )
    })
}

/// What is logged now; `None` before logs are set up.
pub(crate) fn get() -> Option<String> {
    HANDLE.get()?.with_current(ToString::to_string).ok()
}

/// Logs from now on what `text` says, until the process ends.
///
/// # Errors
/// Neither a level nor directives; too long; or logs are not set up.
pub(crate) fn set(text: &str) -> Result<(), MustBe> {
    let text = text.trim();
    if text.is_empty() || text.len() > MAX_BYTES {
        return Err(MustBe::new(format!("must be 1 to {MAX_BYTES} bytes")));
    }
    let filter = parse(text)?;
    let before = get();
    HANDLE
        .get()
        .and_then(|handle| handle.reload(filter).ok())
        .ok_or_else(|| MustBe::new("must wait until logs are set up"))?;
    tracing::warn!(before, now = text, "what is logged was changed");
    Ok(())
}
