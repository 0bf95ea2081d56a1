//! Progress of long work, on a terminal only, on standard error.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Shows that something goes on. Nothing is drawn where standard error is no terminal.
pub(super) fn spinner(what: &'static str) -> ProgressBar {
    styled(ProgressBar::new_spinner(), "{spinner} {msg} {elapsed}").with_message(what)
}

/// Shows how much of something is done.
pub(super) fn bar(all: u64, what: &'static str) -> ProgressBar {
    styled(ProgressBar::new(all), "{msg} {bar:30} {pos}/{len} {eta}").with_message(what)
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    // The templates are ours; one that cannot be read leaves the bar as it is by default.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
