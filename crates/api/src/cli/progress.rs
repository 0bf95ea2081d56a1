//! Progress of long commands on standard error, if it is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A spinner. Not shown if standard error is not a terminal.
pub(super) fn spinner(what: &'static str) -> ProgressBar {
    styled(ProgressBar::new_spinner(), "{spinner} {msg} {elapsed}").with_message(what)
}

/// A progress bar.
pub(super) fn bar(all: u64, what: &'static str) -> ProgressBar {
    styled(ProgressBar::new(all), "{msg} {bar:30} {pos}/{len} {eta}").with_message(what)
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    // An invalid template would leave the default style.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
