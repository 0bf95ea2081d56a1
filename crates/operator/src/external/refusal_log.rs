//! The log of refusals. While discovery is refused, Kubernetes cannot delete any namespace in the cluster, so refusals
//! must be visible.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::refusal::ExternalRefusal;

/// The shortest time between two lines about the same refusal. Any client that reaches the port can cause refusals.
const PAUSE: Duration = Duration::from_secs(10);

/// The label `metric` and the status.
type RefusalKey = (&'static str, u16);

/// Logs refusals, one line for each metric and status every ten seconds.
#[derive(Default)]
pub struct RefusalLog {
    /// Bounded, because there are few labels and statuses.
    logged: Mutex<HashMap<RefusalKey, Logged>>,
}

struct Logged {
    at: Instant,
    /// The number of refusals since then.
    unlogged: u64,
}

impl RefusalLog {
    pub fn log(&self, metric: &'static str, refusal: &ExternalRefusal) {
        let code = refusal.code().as_u16();
        if let Some(unlogged) = self.due((metric, code), Instant::now()) {
            let refusal = refusal.message();
            tracing::warn!(metric, code, refusal, unlogged, "a request was refused");
        }
    }

    /// If a line is due: the number of refusals since the last line.
    fn due(&self, kind: RefusalKey, now: Instant) -> Option<u64> {
        let mut logged = self.logged.lock();
        match logged.get_mut(&kind) {
            Some(last) if now.saturating_duration_since(last.at) < PAUSE => {
                last.unlogged += 1;
                None
            }
            _ => {
                let last = logged.insert(kind, Logged { at: now, unlogged: 0 });
                Some(last.map_or(0, |last| last.unlogged))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_refusals_are_logged_rarely_with_the_number_of_suppressed_ones() {
        let log = RefusalLog::default();
        let now = Instant::now();
        let discovery = ("discovery", 403);
        assert_eq!(log.due(discovery, now), Some(0));
        assert_eq!(log.due(discovery, now), None);
        assert_eq!(log.due(discovery, now + PAUSE / 2), None);
        assert_eq!(log.due(("discovery", 401), now), Some(0));
        assert_eq!(log.due(discovery, now + PAUSE), Some(2));
    }
}
