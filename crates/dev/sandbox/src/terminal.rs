//! Output for the user. It is not an error if the terminal no longer exists.

use std::io::Write as _;
use std::time::Duration;

pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// A finished step and the time that it took.
pub(crate) fn step(what: &str, took: Duration, detail: &str) {
    say(format!("  {what:<24}{:>6.2} s   {detail}", took.as_secs_f64()).trim_end());
}
